from gateway.doctor.findings import Redacted, error, ok
from tests.gateway.looking import Kept


def test_a_secret_is_shown_nowhere_whatever_text_it_is_in() -> None:
    kept = Kept()
    show = Redacted(kept, ["sk-12345", "sk-12345-longer", ""])
    show.looking("asking with sk-12345")
    show.found(error("a", "refused sk-12345-longer", remedy="change sk-12345"))
    show.found(ok("b", "fine"))
    assert kept.looked == ["asking with ***"]
    assert [(f.text, f.remedy) for f in kept.all] == [("refused ***", "change ***"), ("fine", None)]
