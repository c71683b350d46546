"""Numbers on the pages are what the command writes from the committed metrics, which hold what the pages claim."""

from docs.figures import WRITERS, kept, written
from docs.pages import PAGES, WRITTEN, name_of, with_written

MARKER = "<!-- begin: "


def test_the_pages_hold_what_the_command_would_write_now() -> None:
    texts = written()
    behind = [name_of(page) for page in PAGES if with_written(text := page.read_text(encoding="utf-8"), texts) != text]
    assert behind == [], "run `python -m tests.docs.figures`"


def test_every_marker_has_its_end_and_every_text_its_place() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    places = [found["name"] for text in texts for found in WRITTEN.finditer(text)]
    assert len(places) == sum(text.count(MARKER) for text in texts)
    assert set(places) == set(WRITERS)


def test_a_page_that_is_behind_is_noticed() -> None:
    page = f"{MARKER}speed -->\n\nvery\n\n<!-- end: speed -->\nand so on\n"
    assert with_written(page, {"speed": "fast"}) == page.replace("very", "fast")


def test_races_were_won_with_equal_answers() -> None:
    for machine in ("", "xeon/", "avx2/"):
        races = [part for part in kept(f"{machine}inference").values() if "ways" in part]
        assert len(races) == 4
        for part in races:
            assert part["beyond_ties"] == 0
            rivals = [way for name, way in part["ways"].items() if not name.startswith("ours")]
            assert rivals and all(way["times_slower"] > 1 for way in rivals)


def test_company_order_and_threads_changed_no_answer_label_or_outcome() -> None:
    (floor,) = kept("noise_floor").values()
    for way in floor["differ"].values():
        assert (way["responses"], way["labels"], way["outcomes"]) == (0, 0, 0)
        assert way["score"] < 1e-5


def test_a_million_hostile_inputs_met_no_fault() -> None:
    (run,) = kept("fuzz").values()
    assert run["faults"] == 0
    assert run["inputs"] >= 1_000_000
    assert run["guided"] >= run["inputs"] // 2
