"""Writes YAML, as much of it as a configuration needs."""
import json


def dump(value, indent=0):
    """Block style; every text in double quotes, so that nothing is taken for a number or a Boolean."""
    pad = "  " * indent
    if isinstance(value, dict):
        return "".join(_entry(f"{pad}{key}:", item, indent) for key, item in value.items())
    if isinstance(value, list):
        return "".join(_item(pad, item, indent) for item in value)
    return pad + _scalar(value) + "\n"


def _entry(head, item, indent):
    if isinstance(item, (dict, list)) and item:
        return head + "\n" + dump(item, indent + 1)
    return f"{head} {_scalar(item)}\n"


def _item(pad, item, indent):
    if isinstance(item, (dict, list)) and item:
        body = dump(item, indent + 1)
        return pad + "- " + body[len(pad) + 2:]
    return f"{pad}- {_scalar(item)}\n"


def _scalar(value):
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return json.dumps(value)
