"""A button whose clicks are answered at once, also while a cell runs."""

from typing import Any

from comm.base_comm import BaseComm
from ipykernel.kernelbase import Kernel
from ipywidgets import Button, __protocol_version__


class PromptComm(BaseComm):
    """A widget's line to its page that leaves it to the page which of the kernel's threads gets a message.

    JupyterLab addresses what a widget sends to a thread (a subshell) that no cell keeps busy. From ipykernel 7.4 on,
    ipykernel's own comm readdresses it to the thread that last used the comm: to the one in which the cell runs, and a
    click then waits for the cell's end. This comm sends as that one does, and readdresses nothing.
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


class PromptButton(Button):
    """A button that can be pressed while the cell that made it runs, where the page and the kernel have subshells."""

    def open(self) -> None:
        """Tell the page of the button; outside a kernel, as every other widget does."""
        if self.comm is None and Kernel.initialized():
            state = {"state": self.get_state(), "buffer_paths": []}  # a button has no binary state
            self.comm = PromptComm("jupyter.widget", state, {"version": __protocol_version__})
        else:
            super().open()
