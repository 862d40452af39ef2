"""The manifests in deploy/kubernetes: valid for Kubernetes, and what they name exists in the code.

Schemas come with the package kubernetes-validate; what KEDA takes is checked against https://keda.sh/docs by hand.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.api.settings import ApiSettings
from services.cli.settings import CliSettings
from services.notifier.settings import NotifierSettings
from services.storage.settings import StorageSettings
from shared.health import Health, health_routes
from shared.settings import Settings, load
from shared.topology import NOTIFIER_QUEUE
from shared.version import VERSION
from tests.harness.deployment import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.37")
"""The oldest that the manifests are for, and the newest whose schemas are at hand."""

MANIFESTS = sorted(path for path in FOLDER.glob("*/*.yaml") if path.name != "kustomization.yaml")
ROOMS: dict[str, type[Settings]] = {"api": ApiSettings, "storage": StorageSettings, "notifier": NotifierSettings}
SECRETS = {"jwt_secret", "service_secret", "broker_url", "database_url", "sendgrid_api_key", "admin_password"}
MEMORY_MIB = {"api": 118, "storage": 72, "notifier": 113}
"""As the README has it, by `make bench`."""
NO_KUBECTL = (
    "kubectl is not installed here, so nothing renders the manifests: https://kubernetes.io/docs/tasks/tools/, then"
    " `T=tests/unit/test_kubernetes.py make test`"
)


def documents(*paths: Path) -> list[dict[str, Any]]:
    return [document for path in paths for document in yaml.safe_load_all(path.read_text()) if document]


ALL = documents(*MANIFESTS)
PODS = {one["metadata"]["name"]: one["spec"]["template"] for one in ALL if one["kind"] in {"Deployment", "Job"}}
OURS = [one for one in ALL if not one["apiVersion"].startswith("keda.sh/")]


def find(kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in ALL if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def container(room: str) -> dict[str, Any]:
    (only,) = PODS[f"leads-{room}"]["spec"]["containers"]
    return only


def given(room: str) -> dict[str, str]:
    """What a container is told, by the names of the settings; of a secret, the file that has it."""
    settings: dict[str, str] = dict(find("ConfigMap", "leads-settings")["data"])
    return settings | {one["name"]: one["value"] for one in container(room)["env"]}


def names(*classes: type[Settings]) -> set[str]:
    fields = [(name, about) for cls in classes for name, about in cls.model_fields.items()]
    return {str(about.validation_alias or f"LEADS_{name}").upper() for name, about in fields}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", OURS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_each_manifest_is_what_kubernetes_takes(document: dict[str, Any], version: str):
    kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_refuse_what_kubernetes_would():
    """Seen to fail: a field that does not exist."""
    wrong = yaml.safe_load(yaml.safe_dump(find("Deployment", "leads-api")))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_kustomize_knows_every_file():
    for kustomization in FOLDER.glob("*/kustomization.yaml"):
        listed = {(kustomization.parent / name).resolve() for name in documents(kustomization)[0]["resources"]}
        assert {path for path in listed if not path.exists()} == set()
        assert set(kustomization.parent.glob("*.yaml")) - {kustomization} <= listed


@pytest.mark.skipif(shutil.which("kubectl") is None, reason=NO_KUBECTL)
@pytest.mark.parametrize("folder", ["base", "keda"])
def test_what_kustomize_makes_of_them_is_valid_and_of_this_version(folder: str):
    done = subprocess.run(["kubectl", "kustomize", FOLDER / folder], capture_output=True, check=True)
    made = list(yaml.safe_load_all(done.stdout))
    for document in made:
        if not document["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
    deployments = {one["metadata"]["name"]: one["spec"] for one in made if one["kind"] == "Deployment"}
    images = {spec["template"]["spec"]["containers"][0]["image"] for spec in deployments.values()}
    assert images == {f"leads:{VERSION}"}
    assert ("replicas" in deployments["leads-notifier"]) == (folder == "base"), "KEDA counts them"


def test_the_image_is_of_this_version():
    (image,) = documents(FOLDER / "base" / "kustomization.yaml")[0]["images"]
    assert image == {"name": "leads", "newTag": VERSION}


@pytest.mark.parametrize("room", [*ROOMS, "init"])
def test_every_setting_that_is_named_exists(room: str):
    known = names(*ROOMS.values(), CliSettings)
    assert {name.removesuffix("_FILE") for name in given(room)} <= known


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_starts_with_what_it_is_given(room: str, monkeypatch, tmp_path):
    for name, value in given(room).items():
        if not name.endswith("_FILE"):
            monkeypatch.setenv(name, value)
            continue
        secret = tmp_path / Path(value).name
        secret.write_text("x" * 64)
        monkeypatch.setenv(name, str(secret))
    settings = load(ROOMS[room])
    assert settings.host == "0.0.0.0"
    assert {name.removesuffix("_FILE").lower().removeprefix("leads_") for name in given(room) if "_FILE" in name} <= (
        settings.model_fields_set | {"notifier_database_url"}
    )


def test_no_secret_stands_in_a_manifest():
    assert [one for one in ALL if one["kind"] == "Secret"] == []
    for room in (*ROOMS, "init"):
        for name, value in given(room).items():
            kind = name.removesuffix("_FILE").lower().removeprefix("leads_").removeprefix("notifier_")
            assert kind not in SECRETS or (name.endswith("_FILE") and value.startswith("/run/secrets/")), name


@pytest.mark.parametrize("room", [*ROOMS, "init"])
def test_every_secret_file_lies_in_a_volume_of_its_secret(room: str):
    spec = PODS[f"leads-{room}"]["spec"]
    secrets = {one["name"]: one["secret"]["secretName"] for one in spec["volumes"] if "secret" in one}
    mounts = {
        one["mountPath"]: secrets[one["name"]] for one in container(room)["volumeMounts"] if one["name"] in secrets
    }
    for name, value in given(room).items():
        if name.endswith("_FILE"):
            folder = str(Path(value).parent)
            assert mounts[folder] == f"leads-{Path(folder).name}", name


@pytest.mark.parametrize("room", ROOMS)
def test_every_probe_asks_a_path_and_a_port_that_are_there(room: str):
    served = {route.path for route in health_routes(Health(required={})).routes}
    (port,) = container(room)["ports"]
    assert port["containerPort"] == ROOMS[room].model_fields[f"{room}_port"].default
    for kind, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        asked = container(room)[kind]["httpGet"]
        assert asked == {"path": path, "port": port["name"]}
        assert path in served
    (service,) = find("Service", f"leads-{room}")["spec"]["ports"]
    assert (service["port"], service["targetPort"]) == (port["containerPort"], port["name"])


def test_the_api_finds_the_storage():
    (port,) = find("Service", "leads-storage")["spec"]["ports"]
    assert given("api")["LEADS_STORAGE_URL"] == f"http://leads-storage:{port['port']}"


@pytest.mark.parametrize("name", PODS)
def test_no_pod_may_more_than_in_compose(name: str):
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 10001, "the Dockerfile's"
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    (only,) = spec["containers"]
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("name", PODS)
def test_services_set_no_setting_of_ours(name: str):
    """A Service called leads-api would be LEADS_API_PORT=tcp://10.0.0.1:8000 in every pod: no port, and no start."""
    assert PODS[name]["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("room", ROOMS)
def test_memory_is_asked_for_as_it_was_measured(room: str):
    resources = container(room)["resources"]
    asked, most = (int(resources[kind]["memory"].removesuffix("Mi")) for kind in ("requests", "limits"))
    assert MEMORY_MIB[room] <= asked <= 2 * MEMORY_MIB[room]
    assert most >= 2 * MEMORY_MIB[room]
    assert f"{room} {MEMORY_MIB[room]}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("room", ROOMS)
def test_what_selects_pods_selects_those_of_the_room(room: str):
    labels = PODS[f"leads-{room}"]["metadata"]["labels"]
    assert find("Deployment", f"leads-{room}")["spec"]["selector"]["matchLabels"] == labels
    assert find("Service", f"leads-{room}")["spec"]["selector"] == labels
    assert find("PodDisruptionBudget", f"leads-{room}")["spec"]["selector"]["matchLabels"] == labels


def test_a_stop_is_given_the_time_it_takes():
    for room in ROOMS:
        spec = PODS[f"leads-{room}"]["spec"]
        waits_seconds = int(container(room)["lifecycle"]["preStop"]["exec"]["command"][1])
        assert spec["terminationGracePeriodSeconds"] >= waits_seconds + 10


def test_keda_watches_the_queue_that_the_notifier_empties():
    scaled = find("ScaledObject", "leads-notifier")["spec"]
    (trigger,) = scaled["triggers"]
    assert scaled["scaleTargetRef"]["name"] in PODS
    assert trigger["type"] == "rabbitmq"
    assert trigger["metadata"]["queueName"] == NOTIFIER_QUEUE
    assert (trigger["metadata"]["protocol"], trigger["metadata"]["mode"]) == ("amqp", "QueueLength")
    assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes texts only"
    authentication = find("TriggerAuthentication", trigger["authenticationRef"]["name"])
    assert [one["parameter"] for one in authentication["spec"]["secretTargetRef"]] == ["host"]


def test_the_autoscaler_counts_the_api():
    spec = find("HorizontalPodAutoscaler", "leads-api")["spec"]
    assert spec["scaleTargetRef"]["name"] in PODS
    assert "replicas" not in find("Deployment", "leads-api")["spec"], "each `apply` would set it back"
    assert spec["minReplicas"] >= 2
