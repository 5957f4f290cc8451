"""Controls that are answered at once, also while a cell runs, and the models that their answers need.

JupyterLab sends what a widget has to say to a thread of the kernel (a subshell) that no cell keeps busy. What answers
there runs beside the cell, so it may share with it only what neither changes.
"""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any, TypeVar

from comm.base_comm import BaseComm
from ipykernel.kernelbase import Kernel
from ipywidgets import Widget, __protocol_version__
from torch import nn

Control = TypeVar("Control", bound=Widget)


class PromptComm(BaseComm):
    """A widget's line to its page that leaves it to the page which of the kernel's threads gets a message.

    From ipykernel 7.4 on, ipykernel's own comm readdresses a message to the thread that last used the comm: to the one
    in which cells run, and a click then waits for the cell's end. This comm sends as that one does, and readdresses
    nothing.
    """

    def publish_msg(
        self, msg_type: str, data: dict | None = None, metadata: dict | None = None, buffers: Any = None, **keys: Any
    ) -> None:
        """Send a message to the page."""
        kernel, content = Kernel.instance(), {"data": data or {}, "comm_id": self.comm_id, **keys}
        answered = {"parent": kernel.get_parent(), "ident": self.topic}
        kernel.session.send(
            kernel.iopub_socket, msg_type, content, metadata=metadata or {}, buffers=buffers, **answered
        )


class Prompt:
    """Mixed into a control, it opens a PromptComm; outside a kernel, the control opens as every other does."""

    def open(self) -> None:
        """Tell the page of the control."""
        if self.comm is None and Kernel.initialized():
            state = {"state": self.get_state(), "buffer_paths": []}  # a control begins without binary state
            self.comm = PromptComm("jupyter.widget", state, {"version": __protocol_version__})
        else:
            super().open()


@cache
def prompt(kind: type[Control]) -> type[Control]:
    """Return the kind of control that is answered while a cell runs, where the page and the kernel have subshells."""
    return type(kind.__name__, (Prompt, kind), {})


def own_models(models: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return copies of models, so that a cell that runs beside an answer may train, hook or change its own."""
    return deepcopy(dict(models))
