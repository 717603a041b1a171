"""Edit the sites of a ``federation.yaml`` and leave everything else byte for byte.

The text is edited where YAML's own marks say a site or a field lies; comments, order and quotes of
all the rest stay. What comes out is read again and compared with what was meant, so a file written
in a way that this cannot edit is refused, never spoilt.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fedsm import config as configuration
from fedsm.agreement import Acceptance, Approval
from fedsm.config import FederationConfig, Site
from fedsm.errors import ConfigError

APPROVED = ("bundle", "bundle_until")
"""Fields of a site that an approval sets; an acceptance leaves them."""

SITES = "sites"


def add(path: Path, document: Acceptance | Approval) -> None:
    """Put an accepted site into the file, or an approved bundle into its site.

    Raises
    ------
    ConfigError
        The document is not for this federation, its way of launching, or one of its sites; nothing
        is written.
    """
    config = configuration.load(path)
    if isinstance(document, Acceptance):
        _add_site(path, config, document)
    else:
        _add_approval(path, config, document)


def _add_site(path: Path, config: FederationConfig, acceptance: Acceptance) -> None:
    _same_federation(config, acceptance.federation, acceptance.site.name)
    if acceptance.launch != config.mode:
        raise ConfigError(
            f"its owner accepted launch: {acceptance.launch}, {path.name} has {config.mode}",
            where=acceptance.site.name,
            action=f"invite the owner again: fedsm site invite {acceptance.site.name}",
        )
    _write(path, lambda text: put_site(text, fields_of(acceptance.site)))


def _add_approval(path: Path, config: FederationConfig, approval: Approval) -> None:
    _same_federation(config, approval.federation, approval.site)
    site = config.subset([approval.site]).sites[0]
    account = approval.pipeline_arn.split(":")[4]
    if account != site.account_id:
        raise ConfigError(
            f"the approval is of account {account}, the site is in {site.account_id}",
            where=site.name,
            action="ask the site's owner for the approval",
        )
    values: dict[str, Any] = {"bundle": approval.bundle, "bundle_until": None}
    if approval.until is not None:
        values["bundle_until"] = approval.until.isoformat().replace("+00:00", "Z")
    _write(path, lambda text: set_fields(text, approval.site, values))


def remove(path: Path, site: str) -> None:
    """Take a site out of the file.

    Raises
    ------
    ConfigError
        There is no such site.
    """
    configuration.load(path).subset([site])
    _write(path, lambda text: remove_site(text, site))


def fields_of(site: Site) -> dict[str, Any]:
    """A site as it is written: no defaults, and nothing that an approval sets."""
    return site.model_dump(
        mode="json", exclude_defaults=True, exclude_none=True, exclude=set(APPROVED)
    )


def put_site(text: str, values: Mapping[str, Any]) -> str:
    """The text with this site; one of its name gets these fields and no others."""
    listed, known = _listed(text), None
    for item in listed:
        if isinstance(item, dict) and item.get("name") == values["name"]:
            known = item
    if known is not None:
        gone = dict.fromkeys(set(known) - set(values) - set(APPROVED))
        return set_fields(text, str(values["name"]), {**gone, **values})
    return _checked(_append(text, values), text, [*listed, dict(values)])


def set_fields(text: str, site: str, values: Mapping[str, Any]) -> str:
    """The text with these fields of a site; ``None`` takes a field away."""
    for field, value in values.items():
        listed = _listed(text)
        number = next(i for i, item in enumerate(listed) if item.get("name") == site)
        if listed[number].get(field) == value:
            continue
        wanted = {k: v for k, v in {**listed[number], field: value}.items() if v is not None}
        edited = _set_field(text, number, field, value)
        text = _checked(edited, text, [*listed[:number], wanted, *listed[number + 1 :]])
    return text


def remove_site(text: str, site: str) -> str:
    """The text without a site."""
    listed = _listed(text)
    number = next(i for i, item in enumerate(listed) if item.get("name") == site)
    key, sequence = _sites(text)
    item = _item(sequence, number)
    start = _dash(text, item)
    cut = text[: _line_start(text, start)] + text[_line_end(text, _end(text, item)) :]
    if len(listed) == 1:
        at = text.index(":", key.end_mark.index) + 1
        cut = f"{cut[:at]} []{cut[at:]}"
    return _checked(cut, text, [*listed[:number], *listed[number + 1 :]])


def _set_field(text: str, number: int, field: str, value: Any) -> str:
    item = _item(_sites(text)[1], number)
    pairs = item.value
    column = pairs[0][0].start_mark.column
    new = "" if value is None else _dumped(text, {field: value}, column)
    for i, (key, node) in enumerate(pairs):
        if key.value != field:
            continue
        start, end = key.start_mark.index, _end(text, node)
        if value is not None:
            return text[:start] + new + text[end:]
        if i + 1 < len(pairs):  # up to the next key, which takes its place also after a hyphen
            return text[:start] + text[pairs[i + 1][0].start_mark.index :]
        return text[: _line_start(text, start)] + text[_line_end(text, end) :]
    at = _line_end(text, _end(text, item))
    return _inserted(text, at, " " * column + new)


def _append(text: str, values: Mapping[str, Any]) -> str:
    found = _sites(text, needed=False)
    if found is None:
        return _inserted(text, len(text), f"{SITES}:{_newline(text)}{_block(text, values, 0)}")
    key, sequence = found
    if isinstance(sequence, yaml.SequenceNode) and sequence.value:
        dash = _dash(text, sequence.value[0])
        block = _block(text, values, dash - _line_start(text, dash))
        return _inserted(text, _line_end(text, _end(text, sequence)), block)
    colon = text.index(":", key.end_mark.index) + 1
    empty = max(colon, sequence.end_mark.index)
    text = text[:colon] + text[empty:]
    return _inserted(text, _line_end(text, colon), _block(text, values, key.start_mark.column))


def _block(text: str, values: Mapping[str, Any], column: int) -> str:
    return f"{' ' * column}- {_dumped(text, values, column + 2)}"


def _dumped(text: str, values: Mapping[str, Any], column: int) -> str:
    """Block style, continued at a column, without the last line break."""
    dumped = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=1000)
    return f"{_newline(text)}{' ' * column}".join(dumped.rstrip("\n").split("\n"))


def _inserted(text: str, at: int, line: str) -> str:
    newline = _newline(text)
    before = newline if at and text[at - 1] != "\n" else ""
    return text[:at] + before + line + newline + text[at:]


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _line_end(text: str, at: int) -> int:
    """Where the next line begins."""
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _dash(text: str, item: yaml.Node) -> int:
    """Where an item's hyphen stands."""
    before = text[: item.start_mark.index].rstrip()
    if not before.endswith("-"):
        raise _by_hand()
    return len(before) - 1


def _end(text: str, node: yaml.Node) -> int:
    """Where a node's own text ends; the mark of a block lies behind the comments after it."""
    last = node
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        entry = last.value[-1]
        last = entry[1] if isinstance(entry, tuple) else entry
    start = last.start_mark.index
    return start + len(text[start : last.end_mark.index].rstrip())


def _root(text: str) -> yaml.MappingNode:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode) or root.flow_style or _has_aliases(root, set()):
        raise _by_hand()
    return root


def _has_aliases(node: Any, seen: set[int]) -> bool:
    """Whether a node stands in two places: its marks tell of the first only."""
    if isinstance(node, tuple | list):
        return any(_has_aliases(each, seen) for each in node)
    if id(node) in seen:
        return True
    seen.add(id(node))
    return isinstance(node, yaml.CollectionNode) and _has_aliases(node.value, seen)


def _sites(text: str, *, needed: bool = True) -> Any:
    """Key and value of ``sites``."""
    for key, value in _root(text).value:
        if key.value == SITES:
            if isinstance(value, yaml.SequenceNode) and value.flow_style and value.value:
                raise _by_hand()
            return key, value
    if needed:
        raise _by_hand()
    return None


def _item(sequence: yaml.SequenceNode, number: int) -> yaml.MappingNode:
    item = sequence.value[number]
    if not isinstance(item, yaml.MappingNode) or item.flow_style:
        raise _by_hand()
    return item


def _listed(text: str) -> list[Any]:
    raw = yaml.safe_load(text)
    return list((raw or {}).get(SITES) or [])


def _checked(edited: str, text: str, sites: list[Any]) -> str:
    try:
        found = yaml.safe_load(edited)
    except yaml.YAMLError:
        raise _by_hand() from None
    if found != {**yaml.safe_load(text), SITES: sites}:
        raise _by_hand()
    return edited


def _by_hand() -> ConfigError:
    return ConfigError(
        "is written in a way that cannot be edited without touching the rest",
        where=SITES,
        action="write sites as a list of `- name: …` without braces, anchors and aliases, "
        "or edit the site by hand",
    )


def _same_federation(config: FederationConfig, name: str, site: str) -> None:
    if name != config.name:
        raise ConfigError(
            f"this is for the federation {name}, the file's is {config.name}",
            where=site,
            action="give --config of that federation",
        )


def _write(path: Path, edit: Any) -> None:
    """Replace the file in one step by its edited text, if that can be loaded."""
    path = path.resolve()
    text = path.read_bytes().decode()
    edited = edit(text)
    if edited == text:
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(edited.encode())
        draft.chmod(path.stat().st_mode & 0o777)
        try:
            configuration.load(draft)
        except ConfigError as error:
            raise ConfigError(
                "would not be valid any more, and is left as it was",
                where=str(path),
                action="mend the fields below",
                faults=error.faults,
            ) from None
        os.replace(draft, path)  # noqa: PTH105
    finally:
        draft.unlink(missing_ok=True)
