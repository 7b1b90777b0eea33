"""The file that MLflow runs to load one of our models: a policy behind `predict`, without pickle anywhere.

It travels inside each logged model, beside the code that acting needs, so a model loads where tinypi is not installed.
"""

from typing import Any

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from pipeline.errors import RunError
from pipeline.policies.load import load_policy
from pipeline.policies.states import checked_states

MOST_STATES = 10_000  # in a request


class ServedPolicy(PythonModel):
    """States `(N, S)` in physical units in, an array or named columns; chunks of actions `(N, H, A)` out."""

    def load_context(self, context: Any) -> None:
        """Open the policy, on one thread: the networks are too small for a second one to pay."""
        torch.set_num_threads(1)
        self._policy = load_policy(context.artifacts["policy"])
        self._policy.act([[0.0] * self._policy.state_dim])  # so that the first request does not wait for torch

    def predict(
        self,
        context: Any,
        model_input: np.ndarray,  # MLflow knows this spelling, and takes others for a schema
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        """Plan for all states; a server answers 400, with the reason, where they are not fit to act on."""
        try:
            states = checked_states(
                self._policy.name, self._policy.state_dim, model_input, self._policy.task.observation
            )
            if len(states) > MOST_STATES:
                raise ValueError(f"expected at most {MOST_STATES:,} states in a request, found {len(states):,}.")
            return self._policy.act(states)
        except (TypeError, ValueError) as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        except RunError as error:  # a server answers 500
            raise MlflowException(str(error)) from error


set_model(ServedPolicy())
