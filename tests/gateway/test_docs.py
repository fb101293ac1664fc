"""The generated pages are what the code says."""

from gateway import config, docs
from gateway.rest.routes import ROUTES


def test_the_committed_pages_are_the_generated_ones() -> None:
    for name, text in docs.pages(ROUTES).items():
        committed = (docs.FOLDER / name).read_text(encoding="utf-8")
        assert committed == text, f"{name} is out of date: run python -m gateway.docs"


def test_the_settings_page_names_every_setting() -> None:
    page = docs.settings_page()
    for field in config.fields():
        assert f"`{field.flag}`" in page
        assert f"`{field.env}`" in page
        assert field.description in page
    assert "`DATABASE_URL`" in page


def test_the_routes_page_names_every_route() -> None:
    page = docs.routes_page(ROUTES)
    assert all(f"| {route.method} | `{route.path}` |" in page for route in ROUTES)
