"""Settings from flags and the environment."""

from typing import Any

import pytest

from gateway import config
from gateway.config import Settings, SettingsError, load


def test_nothing_set_gives_the_defaults() -> None:
    assert load({}, {}) == Settings()
    assert load({"PATH": "/bin", "WAKEFUL_PORT": ""}, {"port": None}) == Settings()


def test_a_flag_beats_a_variable_and_a_variable_beats_an_alias() -> None:
    env = {"WAKEFUL_PORT": "1000", "LETTA_DEFAULT_LLM_HANDLE": "a/b", "WAKEFUL_MODEL": "c/d"}
    settings = load(env, {"port": 2000})
    assert (settings.port, settings.model) == (2000, "c/d")
    assert load(env | {"WAKEFUL_MODEL": ""}, {}).model == "a/b"


def test_variables_of_other_deployments_are_understood() -> None:
    env = {"DATABASE_URL": "postgresql://h/d", "LETTA_SERVER_PASSWORD": "pw"}
    settings = load(env, {})
    assert (settings.database_url, settings.api_key) == ("postgresql://h/d", "pw")
    env = {"LETTA_DEFAULT_EMBEDDING_HANDLE": "embedding/m", "EMBEDDING_BASE_URL": "http://h/v1"}
    settings = load(env | {"EMBEDDING_API_KEY": "k"}, {})
    assert settings.embedding == "embedding/m"
    assert (settings.embedding_base_url, settings.embedding_api_key) == ("http://h/v1", "k")
    assert load({"WAKEFUL_EMBEDDING": "off"}, {}).embedding == "off"


def test_every_field_can_be_set_by_variable_and_by_flag() -> None:
    values: dict[str, Any] = {
        field.name: {"text": "x/y", "integer": 4_000_000, "seconds": 7.0}.get(
            field.type, field.type.partition(",")[0]
        )
        for field in config.fields()
    }
    values |= {
        "port": 99,
        "host": "127.0.0.2",
        "host_name": "n",
        "database_url": "postgres://h/d",
        "default_base_url": "http://h/v1",
        "embedding_base_url": "http://h/v1",
        "exa_base_url": "http://h",
        "jwt_secret": "s" * 32,
        "cors_origins": "https://h",
    }
    expected = Settings(**values)
    env = {field.env: str(values[field.name]) for field in config.fields()}
    assert load(env, {}) == expected
    assert load({}, values) == expected


@pytest.mark.parametrize(
    ("env", "flags", "setting", "words"),
    [
        ({"WAKEFUL_PROT": "1"}, {}, "WAKEFUL_PROT", "did you mean WAKEFUL_PORT"),
        ({}, {"prot": 1}, "--prot", "did you mean --port"),
        ({"WAKEFUL_PORT": "70000"}, {}, "WAKEFUL_PORT", "65535"),
        ({}, {"port": 0}, "--port", ">= 1"),
        ({"WAKEFUL_PORT": "http"}, {}, "WAKEFUL_PORT", "expected integer, got 'http'"),
        ({"WAKEFUL_IDLE_TIMEOUT": "nan"}, {}, "WAKEFUL_IDLE_TIMEOUT", "> 0"),
        ({"WAKEFUL_IDLE_TIMEOUT": "inf"}, {}, "WAKEFUL_IDLE_TIMEOUT", "86400"),
        ({"WAKEFUL_LOG_LEVEL": "loud"}, {}, "WAKEFUL_LOG_LEVEL", "debug, error, info, warning"),
        ({}, {"host": "0.0.0.0"}, "--host", "refusing to bind 0.0.0.0"),
        ({"WAKEFUL_HOST": "::"}, {}, "WAKEFUL_HOST", "WAKEFUL_API_KEY"),
        ({"WAKEFUL_HOST": "example.com"}, {}, "WAKEFUL_HOST", "refusing"),
        ({"WAKEFUL_MODEL": "gpt"}, {}, "WAKEFUL_MODEL", "provider/name"),
        ({"LETTA_DEFAULT_LLM_HANDLE": "/x"}, {}, "LETTA_DEFAULT_LLM_HANDLE", "provider/name"),
        ({"WAKEFUL_HOST_NAME": "a b"}, {}, "WAKEFUL_HOST_NAME", "letters"),
        ({"WAKEFUL_DEFAULT_BASE_URL": "localhost:1"}, {}, "WAKEFUL_DEFAULT_BASE_URL", "http://"),
        ({"WAKEFUL_DEFAULT_BASE_URL": "http://["}, {}, "WAKEFUL_DEFAULT_BASE_URL", "http://"),
        ({"LETTA_DEFAULT_EMBEDDING_HANDLE": "x"}, {}, "LETTA_DEFAULT_EMBEDDING_HANDLE", "`off` means none"),
        ({"EMBEDDING_BASE_URL": "localhost"}, {}, "EMBEDDING_BASE_URL", "http://"),
        ({"EMBEDDING_BASE_URL": "http://h/v1"}, {}, "EMBEDDING_BASE_URL", "WAKEFUL_EMBEDDING=embedding/"),
        ({"DATABASE_URL": "mysql://h/d"}, {}, "DATABASE_URL", "postgresql://"),
        ({"WAKEFUL_API_KEY": "schlüssel"}, {}, "WAKEFUL_API_KEY", "ASCII"),
        ({"WAKEFUL_JWT_SECRET": "s" * 31}, {}, "WAKEFUL_JWT_SECRET", "at least 32 bytes"),
        ({"WAKEFUL_MAX_PENDING": "10"}, {}, "WAKEFUL_MAX_PENDING", "WAKEFUL_MAX_PENDING_PER_AGENT"),
    ],
)
def test_a_setting_that_cannot_work_is_named_with_the_remedy(
    env: dict[str, str], flags: dict[str, Any], setting: str, words: str
) -> None:
    with pytest.raises(SettingsError) as error:
        load(env, flags)
    assert error.value.setting == setting
    assert words in str(error.value)


def test_a_key_makes_other_addresses_possible() -> None:
    assert load({"LETTA_SERVER_PASSWORD": "k"}, {"host": "0.0.0.0"}).host == "0.0.0.0"
    for host in ("localhost", "127.0.0.9", "::1"):
        assert load({}, {"host": host}).host == host


def test_secrets_are_not_repeated_in_complaints() -> None:
    with pytest.raises(SettingsError) as error:
        load({}, {"api_key": 12345})
    assert "12345" not in str(error.value)
    with pytest.raises(SettingsError) as error:
        load({"WAKEFUL_JWT_SECRET": "hunter2"}, {})
    assert "hunter2" not in str(error.value)
    with pytest.raises(SettingsError) as error:
        load({}, {"jwt_secret": 12345})
    assert "12345" not in str(error.value)
    with pytest.raises(SettingsError) as error:
        load({"DATABASE_URL": "mysql://u:hunter2@h/d"}, {})
    assert "hunter2" not in str(error.value)
