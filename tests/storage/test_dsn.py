"""Addresses of databases, as the driver takes them and as people may see them."""

from storage.dsn import address, password, plain_dsn


def test_addresses_are_told_without_their_password() -> None:
    assert address("postgres+psycopg://me:s3cret@db.example:6000/agents") == (
        "host db.example, port 6000, database agents"
    )
    assert address("postgresql://postgres:s3cret@/postgres?host=%2Frun%2Fpg&port=5433") == (
        "host /run/pg, port 5433, database postgres"
    )
    assert "s3cret" not in address("postgresql://me:s3/cret@db:5432/agents")
    assert plain_dsn(" postgres://a/b\n") == "postgresql://a/b"


def test_the_password_is_found_wherever_it_stands() -> None:
    assert password("postgresql://me:s3cret@db/agents") == "s3cret"
    assert password("postgresql+asyncpg://me@db/agents?password=s3cret") == "s3cret"
    assert password("postgresql://me@db/agents") is None
    assert password(None) is None
    assert password("postgresql://[me:s3cret/agents") == "postgresql://[me:s3cret/agents"
