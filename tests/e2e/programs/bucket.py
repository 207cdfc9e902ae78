"""Look into a bucket with the library of its store, beside chatproxy; say what is there as JSON.

``bucket.py make|names|files|grants|load scheme://bucket[/prefix]``
"""

import hashlib
import json
import sys
import tempfile

import fsspec

what, address = sys.argv[1:]
scheme, _, root = address.partition("://")
filesystem = fsspec.filesystem(scheme, use_listings_cache=False)


def found():
    return {path.removeprefix(f"{root}/"): path for path in filesystem.find(root)}


def make():
    filesystem.mkdir(root)


def names():
    return sorted(found())


def files():
    return {name: hashlib.sha256(filesystem.cat_file(path)).hexdigest() for name, path in found().items()}


def grants():
    """Who may do what with each object, by the store's own account."""
    bucket, _, _ = root.partition("/")
    said = {}
    for name, path in found().items():
        acl = filesystem.call_s3("get_object_acl", Bucket=bucket, Key=path.removeprefix(f"{bucket}/"))
        said[name] = [[grant["Grantee"]["Type"], grant["Permission"]] for grant in acl["Grants"]]
    return said


def load():
    import datasets  # noqa: PLC0415 - it takes seconds, which the others need not wait
    import pyarrow.json  # noqa: PLC0415
    import pyarrow.parquet  # noqa: PLC0415

    paths = [path for name, path in found().items() if name.startswith("data/")]
    form = paths[0].rpartition(".")[2]
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        loaded = datasets.load_dataset(
            {"jsonl": "json"}.get(form, form), data_files=f"{address}/data/*", split="train", cache_dir=cache
        )
        names = sorted(loaded["id"])
    read = pyarrow.parquet.read_table if form == "parquet" else pyarrow.json.read_json
    rows = 0
    for path in paths:
        with filesystem.open(path) as file:
            rows += read(file).num_rows
    return {"datasets": names, "arrow": rows}


json.dump({"make": make, "names": names, "files": files, "grants": grants, "load": load}[what](), sys.stdout)
