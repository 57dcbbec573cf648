"""The machine's settings come from a handful of variables.

Goal: the documented table, with its fallbacks. Method: hand in environments as mappings.
"""

from pathlib import Path

from k2i_core.dev.environment import DevEnvironment, read_environment


def test_everything_can_be_set() -> None:
    assert read_environment(
        {
            "XDG_CACHE_HOME": "/cache",
            "K2I_MAVEN_MIRROR": "http://mirror.example/maven2",
            "K2I_KAFKA": "broker:9092",
        }
    ) == DevEnvironment(Path("/cache/k2i/jars"), "http://mirror.example/maven2", "broker:9092")


def test_the_cache_falls_back_to_the_home_directory() -> None:
    environment = read_environment({"HOME": "/people/some one"})
    assert environment == DevEnvironment(Path("/people/some one/.cache/k2i/jars"))


def test_a_relative_cache_is_ignored_as_the_xdg_rules_say() -> None:
    environment = read_environment({"HOME": "/people/a", "XDG_CACHE_HOME": "cache"})
    assert environment.jar_directory == Path("/people/a/.cache/k2i/jars")


def test_empty_variables_are_unset_variables() -> None:
    environment = read_environment(
        {"HOME": "/people/a", "XDG_CACHE_HOME": "", "K2I_MAVEN_MIRROR": "", "K2I_KAFKA": ""}
    )
    assert environment == DevEnvironment(Path("/people/a/.cache/k2i/jars"))


def test_without_a_home_variable_the_user_database_tells() -> None:
    assert read_environment({}).jar_directory.is_absolute()
