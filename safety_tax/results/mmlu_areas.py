"""The four areas that MMLU's authors sort its 57 subjects into (Hendrycks et al. 2021, appendix B)."""

AREAS = {
    "STEM": """
        abstract algebra, anatomy, astronomy, college biology, college chemistry, college computer science,
        college mathematics, college physics, computer security, conceptual physics, electrical engineering,
        elementary mathematics, high school biology, high school chemistry, high school computer science,
        high school mathematics, high school physics, high school statistics, machine learning
    """,
    "humanities": """
        formal logic, high school european history, high school us history, high school world history,
        international law, jurisprudence, logical fallacies, moral disputes, moral scenarios, philosophy, prehistory,
        professional law, world religions
    """,
    "social sciences": """
        econometrics, high school geography, high school government and politics, high school macroeconomics,
        high school microeconomics, high school psychology, human sexuality, professional psychology,
        public relations, security studies, sociology, us foreign policy
    """,
    "other (business, health, …)": """
        business ethics, clinical knowledge, college medicine, global facts, human aging, management, marketing,
        medical genetics, miscellaneous, nutrition, professional accounting, professional medicine, virology
    """,
}
OUTSIDE = "subjects that are not MMLU's"
AREA = {subject: area for area, names in AREAS.items() for subject in " ".join(names.split()).split(", ")}


def area_of(subject: str) -> str:
    """The area of a subject, whichever way its words are joined."""
    return AREA.get(subject.replace("_", " ").lower(), OUTSIDE)
