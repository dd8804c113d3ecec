"""Synthetic people and their clicks, for demonstrations, tests and benchmarks.

The data is invented (Faker names, reserved mail domains, telephone numbers of the 555 kind) but correlated as
real data is: city, state and postcode agree, the e-mail address follows the name, the tier drives the value.
The same arguments give the same bytes, in every process, with the same versions of faker, numpy and polars.
"""

from privacy_platform.synthetic.generator import FileFormat, GenerationError, generate
from privacy_platform.synthetic.report import GeneratedFile, GenerationReport, PlantedRow

__all__ = ["FileFormat", "GeneratedFile", "GenerationError", "GenerationReport", "PlantedRow", "generate"]
