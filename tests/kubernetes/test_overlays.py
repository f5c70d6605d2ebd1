"""Every overlay: valid by the schemas of Kubernetes, and consistent in itself and with the service.

Run by `make k8s-test`; docs/guide/kubernetes.md tells what the files are.
"""

import re
import warnings

import pytest

from service.api import create_app
from service.config import Settings
from tests.kubernetes.conftest import KUBERNETES, OVERLAYS, ROOT, Rendered, render

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import kubernetes_validate

# The oldest that has all that is used, and the newest that there are schemas of.
VERSIONS = ("1.27", kubernetes_validate.latest_version())
GUIDE = (ROOT / "docs" / "guide" / "kubernetes.md").read_text()
DOCKERFILE = (ROOT / "deploy" / "image" / "Dockerfile").read_text()
QUEUE_METRIC = "headstart_queue_depth"


def test_there_are_overlays() -> None:
    assert OVERLAYS == ("cpu", "external", "external-gpu", "gpu")


@pytest.mark.parametrize("version", VERSIONS)
def test_all_is_valid(rendered: Rendered, version: str) -> None:
    for resource in rendered.resources:
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_wrong_field_would_be_found() -> None:
    deployment = {**render("cpu").one("Deployment"), "sepc": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_every_resource_is_in_the_namespace(rendered: Rendered) -> None:
    namespace = rendered.one("Namespace")["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for resource in rendered.resources:
        if resource["kind"] != "Namespace":
            assert resource["metadata"]["namespace"] == namespace["name"], resource["kind"]


def test_selectors_choose_the_servers_and_nothing_else(rendered: Rendered) -> None:
    chosen = [rendered.one("Service")["spec"]["selector"]]
    chosen.append(rendered.one("Deployment")["spec"]["selector"]["matchLabels"])
    chosen += [budget["spec"]["selector"]["matchLabels"] for budget in rendered.of("PodDisruptionBudget")]
    chosen += [
        constraint["labelSelector"]["matchLabels"]
        for constraint in rendered.server.get("topologySpreadConstraints", [])
    ]
    for selector in chosen:
        for kind, template in rendered.pods.items():
            matches = selector.items() <= template["metadata"]["labels"].items()
            assert matches == (kind == "Deployment"), (selector, kind)


def test_every_name_in_the_environment_is_a_setting(rendered: Rendered) -> None:
    settings = Settings.from_env(rendered.settings)
    assert settings.device == ("cuda" if rendered.has_gpu else "cpu")
    # One for each core of the node otherwise, whatever the pod may use.
    assert settings.workers == int(rendered.server["containers"][0]["resources"]["requests"]["cpu"])
    # With them, the Service named headstart would set HEADSTART_PORT.
    assert all(pod["spec"]["enableServiceLinks"] is False for pod in rendered.pods.values())


def test_ports_and_probes_lead_to_the_server(rendered: Rendered) -> None:
    (container,) = rendered.server["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == Settings.from_env(rendered.settings).port
    assert [each["targetPort"] for each in rendered.one("Service")["spec"]["ports"]] == [port["name"]]
    (ingress,) = rendered.one("NetworkPolicy")["spec"]["ingress"]
    assert ingress["ports"] == [{"port": port["name"]}]
    paths = create_app(Settings()).openapi()["paths"]
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }
    assert all(probe["path"] in paths and probe["port"] == port["name"] for probe in asked.values())


def test_a_pod_has_the_time_to_drain_and_to_stop(rendered: Rendered) -> None:
    settings = Settings.from_env(rendered.settings)
    probe = rendered.server["containers"][0]["readinessProbe"]
    # Also balancers that ask for themselves have noticed by then.
    assert settings.drain_s >= probe["periodSeconds"] * probe["failureThreshold"]
    needed_s = settings.drain_s + settings.shutdown_timeout_s
    assert rendered.server["terminationGracePeriodSeconds"] >= needed_s + 10


def test_pods_have_no_rights(rendered: Rendered) -> None:
    uid = int(re.search(r"^USER (\d+)", DOCKERFILE, re.MULTILINE)[1])  # type: ignore[index]
    for kind, template in rendered.pods.items():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, kind
        assert pod["serviceAccountName"] == rendered.one("ServiceAccount")["metadata"]["name"]
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, uid, uid)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"], kind
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
            assert mounted["tmp"] == "/tmp"
    assert f"HEADSTART_HOME={mounted_at(rendered, 'data')}" in DOCKERFILE


def mounted_at(rendered: Rendered, volume: str) -> str:
    mounts = rendered.server["containers"][0]["volumeMounts"]
    return next(mount["mountPath"] for mount in mounts if mount["name"] == volume)


def test_sqlite_has_one_server_and_its_volume(rendered: Rendered) -> None:
    if rendered.is_replicated:
        return
    spec = rendered.one("Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    claim = rendered.one("PersistentVolumeClaim")["metadata"]["name"]
    for kind, template in rendered.pods.items():
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"] == {"claimName": claim}, kind
    for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget", "Job"):
        assert not rendered.of(kind)
    assert rendered.one("NetworkPolicy")["spec"]["egress"] == []


def test_replicas_share_only_what_is_outside(rendered: Rendered) -> None:
    if not rendered.is_replicated:
        return
    spec = rendered.one("Deployment")["spec"]
    assert "replicas" not in spec, "the autoscaler's number would be undone by each apply"
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert not rendered.of("PersistentVolumeClaim")
    for kind, template in rendered.pods.items():
        assert all("emptyDir" in volume for volume in template["spec"]["volumes"]), kind
        (container,) = template["spec"]["containers"]
        assert {"secretRef": {"name": "headstart-external"}} in container["envFrom"], kind
    scaler = rendered.one("HorizontalPodAutoscaler")["spec"]
    assert scaler["minReplicas"] >= 2
    assert scaler["scaleTargetRef"]["name"] == rendered.one("Deployment")["metadata"]["name"]
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert rendered.one("Job")["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]


def test_gpus_are_asked_for_where_they_are_meant(rendered: Rendered) -> None:
    pod = rendered.server
    (container,) = pod["containers"]
    assert container["image"].endswith(":gpu" if rendered.has_gpu else ":cpu")
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == rendered.has_gpu
    assert ("nodeSelector" in pod) == ("tolerations" in pod) == rendered.has_gpu


def test_the_commands_of_pods_are_commands(rendered: Rendered) -> None:
    from click.testing import CliRunner

    from service.cli import main

    for kind in ("Job", "CronJob"):
        for _ in rendered.of(kind):
            (container,) = rendered.pods[kind]["spec"]["containers"]
            shown = CliRunner().invoke(main, [*container["args"], "--help"])
            assert shown.exit_code == 0, shown.output


def test_the_secret_of_the_guide_has_only_settings_and_credentials() -> None:
    command = re.search(r"create secret generic headstart-external.*?\n```", GUIDE, re.DOTALL)
    assert command
    names = re.findall(r"--from-literal=(\w+)=", command[0])
    ours = {name: "x" for name in names if name.startswith("HEADSTART_")}
    Settings.from_env(ours)
    assert set(ours) == {"HEADSTART_DATABASE_URL", "HEADSTART_BLOB_URL"}
    assert {name for name in names if name not in ours} == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
    }


def test_the_queue_is_a_metric_that_the_guide_derives_from_one_of_the_server() -> None:
    from service import metrics

    scaler = render("external-gpu").one("HorizontalPodAutoscaler")["spec"]
    names = [metric["pods"]["metric"]["name"] for metric in scaler["metrics"] if metric["type"] == "Pods"]
    assert names == [QUEUE_METRIC]
    rule = re.search(r"```yaml\n(rules:.*?)```", GUIDE, re.DOTALL)
    assert rule
    assert f"as: {QUEUE_METRIC}" in rule[1]
    with metrics.stage("queue"):
        pass
    source = 'headstart_stage_seconds_sum{stage="queue"}'
    assert source in metrics.render().decode()
    assert "headstart_stage_seconds_sum" in rule[1]
    assert 'stage="queue"' in rule[1]


def test_the_guide_names_every_setting_file_and_resource() -> None:
    for overlay in OVERLAYS:
        assert f"`overlays/{overlay}`" in GUIDE
        for resource in render(overlay).resources:
            assert resource["kind"] in GUIDE, resource["kind"]
        for name in render(overlay).settings:
            assert name in GUIDE, name
    for component in (KUBERNETES / "components").iterdir():
        assert f"`components/{component.name}`" in GUIDE
