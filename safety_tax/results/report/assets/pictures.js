"use strict";
// Each specification becomes a picture whose marks show numbers on hovering and lead to the items of their recipe.
(() => {
  const options = {
    renderer: "svg", // its colours follow the page's, and it prints sharply
    actions: false,
    ast: true, // the page's policy forbids code made of text
    tooltip: { theme: "page", disableDefaultStyle: true },
  };
  const browse = (datum) => {
    if (datum && datum.number >= 0 && window.browse) window.browse(datum.number);
  };
  // Vega draws marks that only a mouse reaches: each gets the keyboard's focus and its numbers as a label.
  const reach = (place) => {
    for (const mark of place.querySelectorAll(".mark-symbol path")) {
      const datum = mark.__data__?.datum;
      if (!datum || datum.number === undefined) continue;
      mark.tabIndex = 0;
      mark.setAttribute("role", "button");
      mark.setAttribute("aria-label",
        `${datum.variant}, ${datum.standing}: safety ${datum.safety}, change here ${datum.paid}, net benefit ${datum.worth}`);
    }
  };
  const draw = async (place) => {
    const spec = JSON.parse(place.nextElementSibling.textContent);
    const { view } = await window.vegaEmbed(place, spec, options);
    view.addEventListener("click", (_, item) => browse(item && item.datum));
    // The numbers that hovering shows, for those who come by the keyboard.
    place.addEventListener("focusin", ({ target }) => {
      const { right: clientX, bottom: clientY } = target.getBoundingClientRect();
      view.tooltip()(view, new MouseEvent("mousemove", { clientX, clientY }), target.__data__, target.__data__?.tooltip);
    });
    place.addEventListener("focusout", () => view.tooltip()(view, new MouseEvent("mouseout"), null, null));
    place.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      browse(event.target.__data__?.datum);
    });
    reach(place);
    view.addResizeListener(() => view.runAsync().then(() => reach(place)));
  };
  Promise.all([...document.querySelectorAll(".picture")].map(draw)).then(() => {
    document.documentElement.dataset.drawn = Math.round(performance.now());
  });
})();
