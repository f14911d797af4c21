# SPDX-License-Identifier: Apache-2.0
"""Time and memory of loading and exporting a model of Llama-3.2-1B's shape, each in a new process.

    python scripts/bench/load_export.py            # 2.5 GB of weights, a few minutes
    python scripts/bench/load_export.py --small    # some seconds

Memory is what the process used at most above what it used before (Linux: VmHWM). "read" is what it
asked the operating system for (rchar), so nothing of ours counts itself. "plain write" is the time
that this disk takes for as many bytes written one after the other and synced.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
}
SMALL = {**SIZES, "vocab_size": 16384, "hidden_size": 512, "intermediate_size": 2048}
SMALL |= {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2}
SETTINGS = [
    {"param_dtype": dtype, "devices": devices}
    for dtype in ("bfloat16", "float32")
    for devices in (1, 8)
]
COLUMNS = {
    "load_s": "load s",
    "load_cpu_s": "of it CPU",
    "read": "read / files",
    "load_peak": "load peak / held",
    "export_s": "export s",
    "export_cpu_s": "of it CPU",
    "plain_write_s": "plain write s",
    "export_peak": "export peak GB",
    "identical": "identical",
}


def main() -> None:
    """Makes the model, measures every setting and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="a model of 20 million parameters")
    parser.add_argument("--dir", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.dir, **json.loads(options.one))))
        return
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="load_export.") as name:
        folder = Path(name)
        make_model(folder / "model", SMALL if options.small else SIZES)
        rows = []
        for setting in SETTINGS:
            command = [sys.executable, __file__, "--dir", name, "--one", json.dumps(setting)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            print(done.stdout.strip(), flush=True)
            rows.append(json.loads(done.stdout))
    print("\n" + table(rows))


def make_model(folder: Path, sizes: dict[str, int]) -> None:
    """Random bfloat16 weights in three files, written by the safetensors library."""
    import ml_dtypes
    import numpy as np
    from safetensors.numpy import save_file

    from unilogit_jax import models

    folder.mkdir(parents=True)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **sizes}
    config |= {"tie_word_embeddings": True, "dtype": "bfloat16", "hidden_act": "silu"}
    config |= {"rms_norm_eps": 1e-5, "rope_theta": 5e5, "max_position_embeddings": 131072}
    (folder / "config.json").write_text(json.dumps(config))
    decoder = models.read_decoder_config(folder)
    stored = models.weight_table(decoder, models.find_family("llama"))
    shapes = {n: w.hf_shape for w in stored for n in w.names(decoder.layers)}
    rng, index = np.random.default_rng(0), {}
    for part in range(3):
        names, file = sorted(shapes)[part::3], f"model-{part + 1:05d}-of-00003.safetensors"
        tensors = {}
        for name in names:
            values = 0.02 * rng.standard_normal(shapes[name], np.float32)
            tensors[name] = values.astype(ml_dtypes.bfloat16)
        save_file(tensors, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def measure(work: Path, *, param_dtype: str, devices: int) -> dict[str, Any]:
    """One setting, in this process: loads, exports as bfloat16, compares."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    from unilogit_jax import models
    from unilogit_jax.sharding import make_mesh

    mesh = make_mesh(fsdp=-1) if devices > 1 else None
    source, out = work / "model", work / "out"
    size = sum(path.stat().st_size for path in source.glob("*.safetensors"))

    read, memory, start, cpu = bytes_read(), reset_peak(), time.perf_counter(), time.process_time()
    model, params = models.load(source, param_dtype=param_dtype, mesh=mesh)
    seconds, peak = time.perf_counter() - start, memory_peak() - memory
    cpu = time.process_time() - cpu
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    result = {
        "param_dtype": param_dtype,
        "devices": devices,
        "load_s": round(seconds, 2),
        "load_cpu_s": round(cpu, 2),
        "bytes_read": bytes_read() - read,
        "bytes_of_files": size,
        "bytes_held": held,
        "load_peak_bytes": peak,
    }
    memory, start, cpu = reset_peak(), time.perf_counter(), time.process_time()
    models.save(out, model, params, dtype="bfloat16")
    result |= {
        "export_s": round(time.perf_counter() - start, 2),
        "export_cpu_s": round(time.process_time() - cpu, 2),
        "export_peak_bytes": memory_peak() - memory,
        "plain_write_s": round(plain_write(work / "plain", size), 2),
        "identical": same_tensors(source, out),
    }
    subprocess.run(["rm", "-r", str(out)], check=True)
    return result


def plain_write(path: Path, size: int) -> float:
    """Seconds to write and sync so many bytes, one after the other."""
    block = memoryview(os.urandom(1 << 25))
    start = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for place in range(0, size, len(block)):
            file.write(block[: size - place])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return seconds


def same_tensors(a: Path, b: Path) -> bool:
    """Whether two folders hold the same tensors, bit by bit; read by the safetensors library."""
    import ml_dtypes  # noqa: F401
    import numpy as np
    from safetensors import safe_open

    def open_all(folder: Path) -> dict[str, Any]:
        files = [safe_open(path, "numpy") for path in sorted(folder.glob("*.safetensors"))]
        return {name: file for file in files for name in file.keys()}

    left, right = open_all(a), open_all(b)
    return left.keys() == right.keys() and all(
        np.array_equal(
            left[name].get_tensor(name).view(np.uint16),
            right[name].get_tensor(name).view(np.uint16),
        )
        for name in left
    )


def bytes_read() -> int:
    """Bytes that this process has asked the operating system for."""
    return int(Path("/proc/self/io").read_text().split()[1])


def reset_peak() -> int:
    """Forgets the peak; returns the memory used now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_peak()


def memory_peak() -> int:
    """The most memory that this process has used since the last reset, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def table(rows: list[dict[str, Any]]) -> str:
    """The results for reading."""
    lines = ["  ".join(f"{name:>16}" for name in ("parameters", "devices", *COLUMNS.values()))]
    for row in rows:
        shown = {
            **row,
            "read": f"{row['bytes_read'] / row['bytes_of_files']:.3f}",
            "load_peak": f"{row['load_peak_bytes'] / row['bytes_held']:.2f}",
            "export_peak": f"{row['export_peak_bytes'] / 1e9:.2f}",
        }
        cells = [row["param_dtype"], row["devices"], *(shown[name] for name in COLUMNS)]
        lines.append("  ".join(f"{cell!s:>16}" for cell in cells))
    files = rows[0]["bytes_of_files"] / 1e9
    return "\n".join([*lines, f"Files of {files:.2f} GB; export is bfloat16 and synced."])


if __name__ == "__main__":
    main()
