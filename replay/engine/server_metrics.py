"""Which metrics of servers, nodes and GPUs are kept from a Prometheus endpoint, and what each one stands for.

Names as vLLM (v0, v1, and with underscores as Ray serves them), SGLang, TGI, Triton with and without
TensorRT-LLM, llama.cpp, node exporter, DCGM exporter and the demo server expose them. What becomes of the
values is decided in `analysis.server_side`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Final

WAITING: Final = "waiting"
RUNNING: Final = "running"
SLOTS: Final = "slots"
KV_CACHE: Final = "kv_cache"
GPU: Final = "gpu"
GPU_MEMORY: Final = "gpu_memory"
CPU: Final = "cpu"
MEMORY: Final = "memory"
PREEMPTIONS: Final = "preemptions"

QUANTITIES: Final = (WAITING, RUNNING, SLOTS, KV_CACHE, GPU, GPU_MEMORY, CPU, MEMORY, PREEMPTIONS)
"""The vocabulary: requests that wait and that run; shares in use of batch slots, KV cache, GPU, its memory,
CPU and memory; preemptions per second."""

UP: Final = "up"
DURATION: Final = "scrape_duration_seconds"
"""Of every scrape, as Prometheus itself keeps them: whether it was answered, and how long that took."""


@dataclasses.dataclass(frozen=True)
class Known:
    """A sample name (a regular expression) that stands for a quantity; `role` is its part of a ratio."""

    name: str
    quantity: str
    role: str = "value"
    scale: float = 1.0
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


KNOWN: Final = (
    Known(r"(?:ray_)?(?:vllm|peaktape_demo)[:_]num_requests_waiting", WAITING),
    Known(r"(?:ray_)?(?:vllm|peaktape_demo)[:_]num_requests_running", RUNNING),
    Known(r"peaktape_demo:num_requests_running", SLOTS, "used"),
    Known(r"peaktape_demo:num_slots", SLOTS, "total"),
    Known(r"(?:ray_)?vllm[:_](?:gpu|kv)_cache_usage_perc", KV_CACHE),
    Known(r"(?:ray_)?vllm[:_]num_preemptions(?:_total)?", PREEMPTIONS, "counter"),
    Known(r"sglang[:_]num_queue_reqs", WAITING),
    Known(r"sglang[:_]num_running_reqs", RUNNING),
    Known(r"sglang[:_]token_usage", KV_CACHE),
    Known(r"tgi_queue_size", WAITING),
    Known(r"tgi_batch_current_size", RUNNING),
    Known(r"llamacpp:requests_deferred", WAITING),
    Known(r"llamacpp:requests_processing", RUNNING),
    Known(r"llamacpp:kv_cache_usage_ratio", KV_CACHE),
    Known(r"nv_trt_llm_request_metrics", WAITING, labels={"request_type": "waiting"}),
    Known(r"nv_trt_llm_request_metrics", RUNNING, labels={"request_type": "active"}),
    Known(r"nv_inference_pending_request_count", WAITING),
    Known(r"nv_trt_llm_kv_cache_block_metrics", KV_CACHE, labels={"kv_cache_block_type": "fraction"}),
    Known(r"nv_gpu_utilization", GPU),
    Known(r"nv_gpu_memory_used_bytes", GPU_MEMORY, "used"),
    Known(r"nv_gpu_memory_total_bytes", GPU_MEMORY, "total"),
    Known(r"nv_cpu_utilization", CPU),
    Known(r"nv_cpu_memory_used_bytes", MEMORY, "used"),
    Known(r"nv_cpu_memory_total_bytes", MEMORY, "total"),
    Known(r"DCGM_FI_DEV_GPU_UTIL", GPU, scale=0.01),
    Known(r"DCGM_FI_PROF_GR_ENGINE_ACTIVE", GPU),
    Known(r"DCGM_FI_DEV_FB_USED", GPU_MEMORY, "used"),
    Known(r"DCGM_FI_DEV_FB_FREE", GPU_MEMORY, "free"),
    Known(r"node_cpu_seconds_total", CPU, "idle", labels={"mode": "idle"}),
    Known(r"node_cpu_seconds_total", CPU, "idle", labels={"mode": "iowait"}),
    Known(r"node_cpu_seconds_total", CPU, "time"),
    Known(r"node_memory_MemTotal_bytes", MEMORY, "total"),
    Known(r"node_memory_MemAvailable_bytes", MEMORY, "free"),
)
"""In the order of preference: a source that has a quantity under several names is taken at the first."""

_ANY: Final = re.compile("|".join(f"(?:{known.name})" for known in KNOWN))


class Choice:
    """Which sample names are kept: the known ones, and those that match any of the user's patterns."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        translated = [fnmatch.translate(pattern) for pattern in patterns]
        self._own = re.compile("|".join(translated)) if translated else None
        self._seen: dict[str, bool] = {}

    def keeps(self, name: str) -> bool:
        """Whether a sample of this name is kept."""
        if name not in self._seen:
            own = self._own is not None and self._own.match(name) is not None
            self._seen[name] = own or _ANY.fullmatch(name) is not None
        return self._seen[name]


def is_known(name: str) -> bool:
    """Whether a name stands for a quantity of the vocabulary."""
    return _ANY.fullmatch(name) is not None
