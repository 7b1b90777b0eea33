"""The methods. To add one, add a file here and its name below: see CONTRIBUTING.md."""

from pipeline.methods.method import Method
from pipeline.methods.pi0 import PI0
from pipeline.methods.pi0_fast import BINNING, PI0_FAST
from pipeline.methods.regression import REGRESSION

METHODS: dict[str, Method] = {method.name: method for method in (PI0, PI0_FAST, REGRESSION, BINNING)}
