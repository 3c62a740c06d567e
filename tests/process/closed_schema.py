# SPDX-License-Identifier: Apache-2.0
"""The schemas of the OpenAPI document, without room for what they do not name."""
import jsonschema


def closed(schema):
    """The same, without room for members that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {key: closed(value) for key, value in schema.items()}
    if copied.get("type") == "object" and isinstance(copied.get("properties"), dict):
        copied.setdefault("additionalProperties", False)
    return copied


def misfits(document, schema, value):
    """What of the value is not as the document's schema says: (where, what)."""
    whole = {**closed(schema), "components": {"schemas": closed(document["components"]["schemas"])}}
    for error in jsonschema.Draft202012Validator(whole).iter_errors(value):
        yield "/".join(map(str, error.absolute_path)), (error.context[0] if error.context else error).message[:600]
