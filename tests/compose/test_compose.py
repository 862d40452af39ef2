"""`docker compose up` from nothing, on a real engine: a lead in, two e-mails out, and a broker that dies meanwhile.

The tests are one story and run in their order: the stack that the first brings up is the others' too.
"""

import asyncio
import json
import random
import time
from hashlib import sha256

import aiohttp
import pytest

from tests.chaos.checker import Attempt, Verdict, check, table
from tests.chaos.collect import facts_now
from tests.chaos.storm import Storm
from tests.harness.client import Client
from tests.harness.compose import IMAGE, ROOMS_AND_BROKER, Stack, docker
from tests.harness.files import pdf
from tests.harness.inbox import mailbox_inbox
from tests.harness.kept import rows
from tests.harness.sizes import House

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

LEADS = 200
STOP_SECONDS = 10.0
RESUME = pdf(40_000, seed=1)
FIRST = "ann@example.com"
JOBS = ("leads-api", "leads-storage", "leads-notifier", "rabbitmq", "rabbitmq-queues")


async def test_up_from_nothing_is_soon_healthy_and_the_first_lead_causes_two_mails(stack: Stack):
    began = time.monotonic()
    await stack.up()
    async with Client(stack.api_url) as client:
        while True:
            try:
                if (await client.call("GET", "/readyz")).status == 200:
                    break
            except aiohttp.ClientError:
                pass
            assert time.monotonic() < began + 60, await stack.logs("api")
            await asyncio.sleep(0.1)
        ready = time.monotonic()
        answer = await client.post_lead(FIRST, RESUME)
    assert answer.status == 201, "RabbitMQ may still be starting: leads are accepted all the same"
    mailed = await stack.mails_arrive(2)
    await stack.healthy()
    print(f"\nfrom `up`: api ready after {ready - began:.1f} s, the first lead's e-mails after {mailed - began:.1f} s")
    (init,) = await stack.inspect("init")
    assert init["State"]["ExitCode"] == 0


async def test_staff_sign_in_and_download_the_same_bytes(stack: Stack):
    async with Client(stack.api_url) as client:
        assert (await client.login(*stack.login())).status == 200
        (lead,) = (await client.call("GET", "/leads")).json["items"]
        resume = await client.call("GET", f"/leads/{lead['id']}/resume")
    assert sha256(resume.body).hexdigest() == sha256(RESUME).hexdigest() == lead["resume"]["sha256"]


async def test_only_the_api_and_rabbitmqs_pages_are_published_and_on_this_machine_only(stack: Stack):
    published = {}
    for service in ROOMS_AND_BROKER:
        (found,) = await stack.inspect(service)
        ports = found["NetworkSettings"]["Ports"]
        published |= {port: [at["HostIp"] for at in where] for port, where in ports.items() if where}
    assert published == {"8000/tcp": ["127.0.0.1"], "15672/tcp": ["127.0.0.1"]}


@pytest.mark.parametrize("service", ["init", *ROOMS_AND_BROKER])
async def test_no_container_is_root_or_can_write_outside_its_volumes(stack: Stack, service: str):
    (found,) = await stack.inspect(service)
    assert found["Config"]["User"] not in {"", "0", "root"}
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in found["HostConfig"]["SecurityOpt"]
    assert not any("SECRET=" in setting or "KEY=" in setting for setting in found["Config"]["Env"])


async def test_each_room_sees_its_own_secrets_only(stack: Stack):
    seen = {
        room: set((await stack.compose("exec", "-T", room, "ls", "/data/secrets")).split())
        for room in ("api", "storage", "notifier")
    }
    assert seen == {
        "api": {"jwt_secret", "service_secret", "broker_url"},
        "storage": {"service_secret"},
        "notifier": {"broker_url"},
    }


async def test_each_room_has_a_user_at_rabbitmq_that_may_do_no_more_than_it_does(stack: Stack):
    said = await stack.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_permissions", "-p", "leads")
    permissions = {line.split("\t")[0]: line.split("\t")[1:] for line in said.splitlines()[1:]}
    assert permissions.keys() == {"leads-api", "leads-notifier", "leads-ops", "leads-admin"}, "and no guest"
    assert permissions["leads-api"] == ["^$", "^leads$", r"^notifier\.renewals$"], "publishes, and can read no lead"


async def test_the_image_holds_no_compiler_no_test_and_no_secret(stack: Stack):
    look = "which gcc cc make; ls -d /opt/leads/tests /opt/leads/data /opt/leads/.git 2>/dev/null; ls /opt/leads"
    said = (await stack.compose("exec", "-T", "api", "sh", "-c", look)).split()
    assert said == ["leads", "services", "shared"]


async def test_rabbitmq_dies_in_the_middle_of_200_leads_with_two_notifiers_and_nothing_is_lost(stack, tmp_path):
    await stack.up(scale="notifier=2")
    await stack.healthy("notifier")
    storm = Storm(stack.api_url, "compose", dice=random.Random(3))
    posting = asyncio.create_task(storm.run(LEADS))
    await storm.reaches(LEADS // 3)
    await stack.compose("kill", "-s", "KILL", "rabbitmq")
    await posting
    answered = [attempt.status for attempt in storm.ledger]
    assert answered == [201] * LEADS, "no lead was refused, or asked for twice, while RabbitMQ was dead"
    await stack.up(scale="notifier=2")
    await stack.mails_arrive(2 * (LEADS + 1), seconds=120)
    await stack.healthy()
    while (waiting := await stack.waiting()) and storm.ledger[-1].at + 150 > time.time():
        await asyncio.sleep(0.5)

    copy = await stack.copy_out(tmp_path / "copy")
    house = House(copy, mailbox_inbox(copy.mailbox))
    ((first_id,),) = rows(copy.leads_db, "SELECT id FROM leads WHERE email = ?", FIRST)
    ledger = [Attempt(FIRST, sha256(RESUME).hexdigest(), 201, first_id, 0.0), *storm.ledger]
    facts = facts_now(house, ledger, waiting=waiting, dead=(await stack.queues())["notifier.dead"])
    findings = check(facts)
    print(f"\n{table(facts, findings)}")
    assert [finding for finding in findings if finding.verdict is not Verdict.REPEATED] == []
    shares = [(await docker("logs", one)).count("email sent") for one in await stack.containers("notifier")]
    print(f"e-mails sent by each notifier: {shares}")
    assert min(shares) > 0, "both worked"


async def test_a_stop_takes_less_than_ten_seconds_and_a_start_finds_everything(stack: Stack):
    for service in ("audit", *ROOMS_AND_BROKER):
        began = time.monotonic()
        await stack.compose("stop", service)
        took = time.monotonic() - began
        states = [found["State"] for found in await stack.inspect(service)]
        assert took < STOP_SECONDS + 2, f"{service} took {took:.1f} s (Compose itself about one of them)"
        assert [state["ExitCode"] for state in states] == [0] * len(states), f"{service} was killed"
    await stack.up()
    await stack.healthy()
    async with Client(stack.api_url) as client:
        await client.login(*stack.login())
        assert (await client.call("GET", "/leads?total=true&limit=1")).json["total"] == LEADS + 1


async def test_prometheus_finds_every_room_and_rabbitmq_and_knows_the_rules(stack: Stack):
    """Grafana is not started: the profile's dashboards are held to Prometheus in tests/observability."""
    as_root = ("run", "--rm", "--user", "0", "--volume", f"{stack.project}_prometheus:/prometheus")
    await docker(*as_root, "--entrypoint", "chown", IMAGE, "65534", "/prometheus")  # as in Prometheus' own image
    await stack.compose("--profile", "observability", "up", "-d", "prometheus")
    await stack.healthy("prometheus")
    url = f"http://127.0.0.1:{stack.prometheus_port}/api/v1"
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/query", params={"query": "up"}) as answer:
                found = (await answer.json())["data"]["result"]
            up = {(one["metric"]["job"], one["value"][1]) for one in found}
            if up == {(job, "1") for job in JOBS}:
                break
            await asyncio.sleep(1)
        async with session.get(f"{url}/rules") as answer:
            groups = (await answer.json())["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 7
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []


async def test_the_command_line_works_in_a_container_of_its_own(stack: Stack):
    run = ("run", "--rm", "-T", "leads")
    assert stack.login()[0] in await stack.compose(*run, "users", "list")
    assert "outbox: 0 waiting" in await stack.compose(*run, "queues")
    assert '"discrepancies": 0' in await stack.compose(*run, "audit", "--deep", "--json")


@pytest.mark.parametrize("room", ["api", "storage", "notifier"])
async def test_the_doctor_finds_every_room_well(stack: Stack, room: str):
    said = json.loads(await stack.compose("exec", "-T", room, "leads", "doctor", "--json"))
    assert [finding for finding in said["findings"] if finding["state"] == "failed"] == []


async def test_the_doctor_sends_people_to_the_rooms_whose_settings_it_would_look_at(stack: Stack):
    said = await stack.compose("run", "--rm", "-T", "leads", "doctor", check=False)
    assert "run the doctor in their containers" in " ".join(said.split())


async def test_an_audit_is_made_each_day_without_anybodys_help(stack: Stack):
    """The first comes a minute after the start; only that it waits for it is looked at here."""
    (found,) = await stack.inspect("audit")
    assert found["State"]["Running"]
    assert found["Config"]["Cmd"] == ["audit", "--every-hours", "24"]
