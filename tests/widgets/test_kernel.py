"""Laws of the installed kernel, and of the button that is answered while a cell runs; no browser is needed."""

import queue
import random
import time

import pytest
from jupyter_client.manager import KernelManager

from woofkit.study import CLIENT_CONFIG, KERNEL

WAITING_CELL = """
import time
from woofkit.widgets.prompt_button import PromptButton

button, clicks = PromptButton(description="stop"), []
button.on_click(lambda _button: clicks.append(time.monotonic()))
button.disabled = True
button.disabled = False
end = time.monotonic() + 20
while not clicks and time.monotonic() < end:
    time.sleep(0.05)
print("clicked while the cell ran" if clicks else "no click came")
"""


@pytest.fixture
def client():
    manager = KernelManager(kernel_name=KERNEL, config=CLIENT_CONFIG)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def unanswered(client, ids: set[str], seconds: float) -> set[str]:
    """Which of these requests got no reply, when for so long none has come."""
    left = set(ids)
    try:
        while left:
            left.discard(client.get_shell_msg(timeout=seconds)["parent_header"]["msg_id"])
    except queue.Empty:
        pass
    return left


def test_no_cell_is_lost_when_many_are_sent_at_once(client):
    chance = random.Random(0)
    for _ in range(30):  # ipykernel 7.3 loses some in one of the first two or three rounds
        ids = set()
        for _ in range(30):
            ids.add(client.execute("x = 1", store_history=False))
            time.sleep(0.004 * max(0, chance.uniform(-1, 1)))  # so that some come while a reply leaves
        assert not unanswered(client, ids, 10)


def test_a_click_is_answered_while_the_cell_runs(client):
    control = client.session.msg("create_subshell_request")
    client.control_channel.send(control)
    subshell = client.get_control_msg(timeout=10)["content"]["subshell_id"]
    client.execute(WAITING_CELL)
    printed = ""
    while not printed:
        message = client.get_iopub_msg(timeout=60)
        kind, content = message["msg_type"], message["content"]
        assert kind != "error", content
        if kind == "comm_open" and content["data"]["state"]["_model_name"] == "ButtonModel":
            assert content["data"]["state"]["description"] == "stop"
            comm_id = content["comm_id"]
        if kind == "comm_msg" and content["comm_id"] == comm_id and content["data"]["state"] == {"disabled": False}:
            data = {"method": "custom", "content": {"event": "click"}}
            click = client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
            click["header"]["subshell_id"] = subshell  # as JupyterLab addresses it
            client.shell_channel.send(click)
        if kind == "stream":
            printed = content["text"]
    assert printed.strip() == "clicked while the cell ran"
