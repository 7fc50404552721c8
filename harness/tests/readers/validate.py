"""Holds JSON files against a JSON Schema with the Python package jsonschema.

usage: validate.py SCHEMA FILE...

Says what does not fit, and where, and fails then.
"""

import json
import sys

import jsonschema


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


schema = load(sys.argv[1])
validator_class = jsonschema.validators.validator_for(schema)
validator_class.check_schema(schema)
faults = 0
for path in sys.argv[2:]:
    for fault in validator_class(schema).iter_errors(load(path)):
        place = "/".join(str(step) for step in fault.absolute_path)
        print(f"{path}: {place}: {fault.message}")
        faults += 1
sys.exit(1 if faults else 0)
