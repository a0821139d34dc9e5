"""Backups taken under load, restored, refused; objects exported to another API and back."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hub.api.errors import CorruptStoreError, DataDirectoryBusyError, GoneError, UsageError
from hub.api.installed import installed_crds
from hub.api.resource import CONFIG_MAPS, FLEET_JOBS, NAMESPACES
from hub.apiserver import serve
from hub.apiserver.backup import back_up, restore, store_directory
from hub.apiserver.kubeconfig import write_kubeconfig
from hub.cli.export import in_order, portable_object
from hub.cli.main import cli

KUBECTL = shutil.which("kubectl", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


async def test_a_backup_taken_under_load_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    async with serve(tmp_path / "api", self_signed=True) as server:
        api = server.in_process()
        written = 0

        async def write() -> None:
            nonlocal written
            while True:
                await api.create(
                    CONFIG_MAPS, {"metadata": {"name": f"m{written:06}"}, "data": {"n": "x" * 200}}, "default"
                )
                written += 1
                await asyncio.sleep(0)

        writer = asyncio.create_task(write())
        while written < 200:
            await asyncio.sleep(0.001)
        before = written
        made = await asyncio.to_thread(back_up, tmp_path / "api", tmp_path / "b.tar.gz")
        after = written
        writer.cancel()
        version = int((await api.list(CONFIG_MAPS)).resource_version)
    assert stat.S_IMODE((tmp_path / "b.tar.gz").stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"api", "b.tar.gz"}
    found = restore(tmp_path / "b.tar.gz", tmp_path / "new")
    assert found.objects == made.objects
    for name in ("store.db", "tls/ca.key"):
        assert stat.S_IMODE((tmp_path / "new" / name).stat().st_mode) == 0o600
    async with serve(tmp_path / "new", self_signed=True) as server:
        api = server.in_process()
        names = [obj["metadata"]["name"] for obj in (await api.list(CONFIG_MAPS)).items]
        # Without a gap, and not one more than there were.
        assert names == [f"m{number:06}" for number in range(len(names))]
        assert before <= len(names) <= after + 1
        # Nobody who saw later versions mistakes new ones for them.
        assert int((await api.list(CONFIG_MAPS)).resource_version) > version
        with pytest.raises(GoneError):
            await anext(aiter(api.watch(CONFIG_MAPS, resource_version=str(version))))
        authority = server.authority
    assert authority == (tmp_path / "api" / "tls" / "ca.crt").read_bytes()


async def test_where_a_backup_can_be_restored(tmp_path: Path) -> None:
    async with serve(tmp_path / "api") as server:
        await server.in_process().create(NAMESPACES, {"metadata": {"name": "n"}})
        back_up(store_directory(tmp_path), tmp_path / "b")
        with pytest.raises(DataDirectoryBusyError):
            restore(tmp_path / "b", tmp_path / "api")
    with pytest.raises(UsageError, match="store already"):
        restore(tmp_path / "b", tmp_path / "api")
    with pytest.raises(UsageError, match="no store"):
        store_directory(tmp_path / "nothing")


@pytest.mark.parametrize("damage", ["empty", "text", "short", "flipped", "stranger", "upwards", "no store"])
async def test_what_is_no_backup_leaves_nothing(tmp_path: Path, damage: str) -> None:
    async with serve(tmp_path / "api") as server:
        await server.in_process().create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"k": "v" * 5000}}, "default")
        back_up(tmp_path / "api", tmp_path / "b")
    data = (tmp_path / "b").read_bytes()
    bad = tmp_path / "bad"
    if damage in ("empty", "text", "short"):
        bad.write_bytes({"empty": b"", "text": b"hello", "short": data[: len(data) // 2]}[damage])
    else:
        with tarfile.open(tmp_path / "b") as source, tarfile.open(bad, "w") as target:
            for entry in source:
                content = bytearray(source.extractfile(entry).read())  # type: ignore[union-attr]  # files only
                if entry.name == "store.db" and damage == "flipped":
                    content[content.index(b"v" * 1000)] ^= 1
                if entry.name == "store.db" and damage == "no store":
                    continue
                entry.size = len(content)
                target.addfile(entry, io.BytesIO(content))
            if damage in ("stranger", "upwards"):
                extra = tarfile.TarInfo("x" if damage == "stranger" else "../x")
                target.addfile(extra, io.BytesIO())
    with pytest.raises((UsageError, CorruptStoreError)):
        restore(bad, tmp_path / "new")
    assert not (tmp_path / "new" / "store.db").exists()
    assert not (tmp_path / "x").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["store.lock"]


async def test_the_commands(tmp_path: Path) -> None:
    async with serve(tmp_path / "up" / "api") as server:
        await server.in_process().create(NAMESPACES, {"metadata": {"name": "n"}})
        run = CliRunner()
        done = await asyncio.to_thread(run.invoke, cli, ["backup", str(tmp_path / "b"), "--data", str(tmp_path / "up")])
        assert done.exit_code == 0, done.output
        assert "objects as of resourceVersion" in done.output
    done = CliRunner().invoke(cli, ["restore", str(tmp_path / "b"), "--data", str(tmp_path / "new" / "api")])
    assert done.exit_code == 0, done.output
    async with serve(tmp_path / "new" / "api") as server:
        assert (await server.in_process().get(NAMESPACES, "n"))["metadata"]["name"] == "n"


JOB: dict[str, Any] = {
    "metadata": {"name": "j", "labels": {"a": "b"}},
    "spec": {"tasks": 2, "template": {"spec": {"containers": [{"name": "main", "image": "busybox"}]}}},
}


@pytest.mark.kubectl
async def test_what_is_exported_another_api_takes(tmp_path: Path) -> None:
    if KUBECTL is None:
        pytest.skip("no kubectl on PATH")
    async with serve(tmp_path / "a", crds=installed_crds()) as one, serve(tmp_path / "b", self_signed=True) as two:
        api = one.in_process()
        await api.create(NAMESPACES, {"metadata": {"name": "team"}})
        job = await api.create(FLEET_JOBS, JOB, "team")
        owner = {"apiVersion": FLEET_JOBS.api_version, "kind": "FleetJob", "name": "j", "uid": job["metadata"]["uid"]}
        owned = {"name": "made", "ownerReferences": [{**owner, "controller": True}]}
        await api.create(CONFIG_MAPS, {"metadata": owned}, "team")
        await api.create(CONFIG_MAPS, {"metadata": {"name": "mine"}, "data": {"k": "on"}}, "team")
        write_kubeconfig(tmp_path / "one", one.url, one.token, user="admin")
        write_kubeconfig(tmp_path / "two", two.url, two.token, user="admin", ca=two.authority)
        exported = await asyncio.to_thread(CliRunner().invoke, cli, ["--kubeconfig", str(tmp_path / "one"), "export"])
        assert exported.exit_code == 0, exported.output
        environment = {"KUBECONFIG": str(tmp_path / "two"), "HOME": str(tmp_path), "PATH": os.environ.get("PATH", "")}

        def apply() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [str(KUBECTL), "apply", "--server-side", "-f", "-"],
                input=exported.stdout,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        done = await asyncio.to_thread(apply)
        if done.returncode:
            # Kinds that came with the same stream were not known to it yet.
            done = await asyncio.to_thread(apply)
        assert done.returncode == 0, done.stderr
        there = two.in_process()
        assert (await there.get(FLEET_JOBS, "j", "team"))["spec"] == job["spec"]
        assert (await there.get(CONFIG_MAPS, "mine", "team"))["data"] == {"k": "on"}
        assert [obj["metadata"]["name"] for obj in (await there.list(CONFIG_MAPS, "team")).items] == ["mine"]


def test_what_is_exported_and_what_is_not() -> None:
    def obj(kind: str, name: str, **more: Any) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": name, "uid": "u", "resourceVersion": "1"},
            **more,
        }

    assert portable_object(obj("Namespace", "kube-system")) is None
    assert portable_object(obj("ConfigMap", "kube-root-ca.crt")) is None
    leaving = obj("ConfigMap", "a")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert portable_object(leaving) is None
    bootstrap = obj("ClusterRole", "view")
    bootstrap["metadata"]["labels"] = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    assert portable_object(bootstrap) is None
    kept = portable_object(obj("Namespace", "n", spec={"finalizers": ["kubernetes"]}, status={"phase": "Active"}))
    assert kept == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    mine = portable_object(
        obj("ClusterRole", "r", aggregationRule={"clusterRoleSelectors": []}, rules=[{"verbs": ["x"]}])
    )
    assert mine is not None
    assert "rules" not in mine
    order = [
        ("kueue.x-k8s.io/v1beta2", {"name": "workloads"}),
        ("admissionregistration.k8s.io/v1", {"name": "validatingwebhookconfigurations"}),
        ("v1", {"name": "configmaps"}),
        ("v1", {"name": "namespaces"}),
        ("apiextensions.k8s.io/v1", {"name": "customresourcedefinitions"}),
    ]
    assert [entry[1]["name"] for entry in in_order(order)] == [
        "customresourcedefinitions",
        "namespaces",
        "configmaps",
        "workloads",
        "validatingwebhookconfigurations",
    ]
