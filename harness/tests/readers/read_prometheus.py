"""Reads exports with the parsers of the Prometheus project's Python client.

usage: read_prometheus.py prometheus|openmetrics FILE

Prints one JSON object: by sample name, a list of [labels, value]; under "" the number of families.
Fails where the parser does.
"""

import json
import sys

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

dialect, path = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    text = file.read()
parse = {
    "prometheus": parser.text_string_to_metric_families,
    "openmetrics": openmetrics.text_string_to_metric_families,
}[dialect]
samples = {}
families = list(parse(text))
for family in families:
    for sample in family.samples:
        samples.setdefault(sample.name, []).append([sample.labels, sample.value])
json.dump({"families": len(families), "samples": samples}, sys.stdout)
