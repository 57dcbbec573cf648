"""The pipeline file's `transforms` and `privacy` as the steps that do them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pyarrow as pa

from k2i_core.config import Pipeline
from k2i_core.config.privacy import Privacy as PrivacySection
from k2i_core.config.transforms import Transform, read_cast_type
from k2i_core.errors import ConfigError
from k2i_core.schema.arrow_types import to_arrow, to_arrow_schema
from k2i_core.transform import sql_steps, steps
from k2i_core.transform.chain import Declared, Transforms
from k2i_core.transform.exploding import explode
from k2i_core.transform.json_paths import json_paths
from k2i_core.transform.privacy import Action, Privacy, PrivacyRules, TellFound, nothing_tagged
from k2i_core.transform.sql_engine import SqlEngine
from k2i_core.transform.steps import Step
from k2i_core.wiring.schema_tags import SchemaTags


def transforms_of(
    pipeline: Pipeline,
    tags: SchemaTags | None = None,
    engine: SqlEngine | None = None,
    tell_found: TellFound | None = None,
) -> Transforms | None:
    """Return the pipeline's transforms; None where the table has the records' columns.

    Args:
        pipeline: Whose.
        tags: Learns what is private from schemas.
        engine: Shared by the tables of one pipeline; None for an own one.
        tell_found: Told which paths of privacy lead somewhere, where one of several tables is only
            checked.

    """
    if not pipeline.transforms and pipeline.privacy is None:
        return None
    engine = engine or SqlEngine()
    steps = [
        Declared(f"transforms[{index}].{one.step}", _maker(one, engine))
        for index, one in enumerate(pipeline.transforms)
    ]
    section = pipeline.privacy
    if section is None:
        return Transforms(steps)
    tagged = nothing_tagged if tags is None else tags.found
    rules = replace(
        _rules(section),
        tagged=tagged,
        is_shared=pipeline.is_one_of_several and tell_found is None,
        tell_found=tell_found,
    )
    return Transforms(steps, Privacy(engine, rules))


def check_paths(pipeline: Pipeline, engine: SqlEngine) -> None:
    """Check that each path of privacy leads somewhere in one of several tables at least.

    Raises:
        ConfigError: One does not, or the steps of a table cannot be done.

    """
    found: set[str] = set()
    for alone in pipeline.entries:
        columns = alone.record_columns()
        made = transforms_of(alone, engine=engine, tell_found=found.update)
        if columns is None or made is None:
            continue
        try:
            made.check(to_arrow_schema(columns))
        except ConfigError as error:
            message = f"table {alone.table.identifier}: {error}"
            raise ConfigError(message) from error
    for path in pipeline.privacy.columns if pipeline.privacy else ():
        if path not in found:
            message = (
                f'privacy.columns: "{path}" is no column that one of the tables declares, nor one '
                f"that its transforms make; declare it in columns of one"
            )
            raise ConfigError(message)


def schema_tags(pipeline: Pipeline) -> SchemaTags | None:
    """Return what learns the tags of schemas; None where the file asks for none."""
    section = pipeline.privacy
    if section is None or not section.tags:
        return None
    actions = {tag: Action(action) for tag, action in section.tags.items()}
    return SchemaTags(actions, has_envelope=pipeline.format.envelope is not None)


def _rules(section: PrivacySection) -> PrivacyRules:
    return PrivacyRules(
        columns={path: Action(action) for path, action in section.columns.items()},
        secret=(section.secret or "").encode(),
        key=None if section.key == "keep" else Action(section.key),
        keeps_headers=section.headers == "keep",
        keeps_bytes=section.dead_letter_bytes == "keep",
    )


def _maker(  # noqa: C901, PLR0911 - one return a step
    one: Transform, engine: SqlEngine
) -> Callable[[pa.Schema], Step]:
    if one.rename is not None:
        return partial(steps.rename, names=one.rename)
    if one.drop is not None:
        return partial(steps.drop, names=one.drop)
    if one.keep is not None:
        return partial(steps.keep, names=one.keep)
    if one.cast is not None:
        types = {name: to_arrow(read_cast_type(text)) for name, text in one.cast.items()}
        return partial(sql_steps.cast, engine, types=types)
    if one.constant is not None:
        return partial(steps.constant, values=one.constant)
    if one.sql is not None:
        return partial(sql_steps.sql, engine, expressions=one.sql)
    if one.jmespath is not None:
        return partial(json_paths, paths=one.jmespath)
    if one.kafka is not None:
        return partial(steps.kafka, names=one.kafka)
    if one.flatten is not None:
        return partial(steps.flatten, names=one.flatten)
    if (section := one.explode) is not None:
        return partial(
            explode,
            name=section.column,
            keeps_empty=section.empty == "row",
            row_count_max=section.max_rows,
        )
    assert one.filter is not None
    return partial(sql_steps.keep_where, engine, text=one.filter)
