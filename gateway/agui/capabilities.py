"""What this server can, as AG-UI clients ask for it (`AgentCapabilities`). Pure."""

from gateway.agui.shapes import present
from storage.records import JsonObject

IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def capabilities(*, version: str, max_frame_bytes: int | None = None) -> JsonObject:
    """Return what is true of every agent here. What is not there is left out, or false.

    `custom` tells what AG-UI has no word for: where runs are taken up again, and the websocket's protocol.
    """
    return {
        "identity": {
            "name": "wakeful",
            "type": "wakeful",
            "description": "Long-lived agents with memory, checkpointed at every step",
            "version": version,
            "documentationUrl": "/docs/agui",
        },
        "transport": {
            "streaming": True,
            "websocket": True,
            "httpBinary": False,
            "pushNotifications": False,
            "resumable": True,
        },
        "tools": {"supported": True, "parallelCalls": True, "clientProvided": True},
        "output": {"structuredOutput": False, "supportedMimeTypes": ["text/plain"]},
        "state": {"snapshots": True, "deltas": True, "memory": True, "persistentState": True},
        "reasoning": {"supported": True, "streaming": True, "encrypted": False},
        "multimodal": {
            "input": {"image": True, "audio": False, "video": False, "pdf": False, "file": False},
            "output": {"image": False, "audio": False},
        },
        "execution": {"codeExecution": False, "sandboxed": False},
        "humanInTheLoop": {
            "supported": True,
            "approvals": True,
            "interventions": True,
            "feedback": False,
            "interrupts": True,
            "approveWithEdits": True,
        },
        "custom": {
            "wakeful": present(
                protocol="wakeful/1",
                agui="1.0",
                websocket="/v1/ws",
                run="/v1/agui/agents/{agent_id}",
                resume="/v1/agui/agents/{agent_id}/runs/{run_id}/events",
                imageTypes=list(IMAGES),
                maxFrameBytes=max_frame_bytes,
            )
        },
    }
