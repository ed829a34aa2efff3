"""Capture of one module again and again while it is trained: exported once, its tensors read anew each time.

Export and lowering take most of a capture's time and depend on the module's structure alone. A recapture copies the
module, reads the tensors by the names that the first export gave them, folds the batch norms again and proves the
result by the same replay as a first capture (within 1e-5 of the largest output, on batches of two sizes). When that
fails, the module is captured from the beginning: a change of structure is found, NOT guessed, as far as the replay on
the example can show it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitcert.errors import CaptureError
from bitcert.network.capturing import Understood, understand
from bitcert.network.checks import check_eager, check_example, check_finite, check_replay, evaluation_copy
from bitcert.network.fold import fold_batch_norms
from bitcert.network.network import CaptureReport, Network
from bitcert.network.unwrapping import with_plain_weights

__all__ = ["Recapture"]


class Recapture:
    """Captures ``model`` at every call; the module, its mode, its gradients and the random state are left alone.

    Args:
        model: a module whose weights change between the calls.
        example: inputs ``[batch, ...]`` as for :func:`~bitcert.network.capturing.capture`.

    >>> model = nn.Linear(3, 2)
    >>> recapture = Recapture(model, torch.eye(3))
    >>> first = recapture()
    >>> model.bias.data += 1.0
    >>> bool(torch.allclose(recapture()(torch.eye(3)), first(torch.eye(3)) + 1.0))
    True
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._model, self._example = model, check_example(example)
        self._understood: Understood | None = None

    def __call__(self) -> Network:
        """The network with the module's present values.

        Raises:
            CaptureError: as :func:`~bitcert.network.capturing.capture`.
        """
        if self._understood is not None:
            try:
                with torch.random.fork_rng(devices=[]):
                    return self._again(self._understood)
            except CaptureError:
                pass  # whatever changed, a capture from the beginning understands it or says why not
        self._understood = understand(self._model, self._example)
        return self._understood.network

    def _again(self, before: Understood) -> Network:
        notes: list[str] = []
        module = evaluation_copy(self._model, notes)
        plain = with_plain_weights(module)
        live: dict[str, Tensor] = dict(plain.named_parameters(remove_duplicate=False))
        live |= dict(plain.named_buffers(remove_duplicate=False))
        values = {
            name: live[target].detach().contiguous().clone() if (target := before.targets[name]) in live else kept
            for name, kept in before.values.items()
        }
        kinds = [(value.shape, value.dtype) for value in values.values()]
        if kinds != [(kept.shape, kept.dtype) for kept in before.values.values()]:
            raise CaptureError("the tensors of the first capture", "other shapes or dtypes", "capture it anew")
        check_finite(values)
        check_eager(module, self._example)
        folded = fold_batch_norms(list(before.nodes), values, before.output)
        architecture, report = before.network.architecture, before.network.report
        parameters = {spec.name: folded.parameters[spec.name] for spec in architecture.parameters}
        deviation = check_replay(module, architecture, parameters, self._example)
        report = CaptureReport(report.folded, report.tied, report.dropped, tuple(notes), deviation)
        return Network(architecture, parameters, report)
