"""From settings to objects, and what is left of them when they are closed."""

from __future__ import annotations

import asyncio
import base64
import stat
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.identity.jwts import TokenFault
from gateway.lifecycle import wiring
from gateway.options import load
from gateway.prometheus import families
from gateway.secrets.destinations import written as to
from gateway.secrets.vault import VaultFault
from gateway.settings import Settings
from tests.dataplane import Gateway, Migrated, connect, running, working
from tests.gateway.stoppable import Stoppable
from tests.loopback import Upstream

Eventually = Callable[..., Awaitable[None]]
Start = Callable[..., Awaitable[Gateway]]


def settings(**sections: Any) -> Settings:
    return load(Settings, sections)


def key(octet: int) -> str:
    return base64.b64encode(bytes([octet]) * 32).decode()


def seal(vault: Any) -> Any:
    return vault.seal("s3cret", team="red", connector="c", name="n")


def test_keys_are_made_in_the_data_directory_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    sealed = seal(wiring.vault_of(settings(), tmp_path, {}))
    again = wiring.vault_of(settings(), tmp_path, {})
    tokens = wiring.tokens_of(settings(), tmp_path)

    assert again.open(sealed, team="red", connector="c", name="n") == "s3cret"
    assert tokens.mint(team="red", role="admin", user="ana", life_s=60)
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert files == {"master.key": 0o600, "signing.key": 0o600}


def test_first_master_key_seals_and_all_open(tmp_path: Path) -> None:
    old = settings(secrets={"master_keys": [{"id": "old", "key": key(1)}]})
    both = [{"id": "new", "key": key(2)}, {"id": "old", "key": key(1)}]
    sealed = seal(wiring.vault_of(old, tmp_path, {}))
    vault = wiring.vault_of(settings(secrets={"master_keys": both}), tmp_path, {})

    assert seal(vault).key_id == "new"
    assert vault.open(sealed, team="red", connector="c", name="n") == "s3cret"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["%%%", base64.b64encode(b"short").decode()])
def test_master_key_that_is_none_is_named_and_not_shown(tmp_path: Path, bad: str) -> None:
    given = settings(secrets={"master_keys": [{"id": "first", "key": bad}]})
    with pytest.raises(VaultFault, match=r'secrets\.master_keys: key "first" is not') as fault:
        wiring.vault_of(given, tmp_path, {})

    assert bad not in str(fault.value)


def test_references_are_for_their_hosts_in_any_case(tmp_path: Path) -> None:
    given = settings(secrets={"environment": [{"name": "KEY", "hosts": ["API.example.com"]}]})
    vault = wiring.vault_of(given, tmp_path, {"KEY": "value", "OTHER": "hidden"})

    assert vault.resolve("env:KEY", "red", to("api.EXAMPLE.com")) == "value"
    assert vault.resolve("env:KEY", "red", to("else.example.com")) is None
    assert vault.resolve("env:OTHER", "red", to("api.example.com")) is None


def test_files_are_for_their_hosts_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("value\n")
    given = settings(secrets={"files": [{"path": str(path), "hosts": ["API.example.com"]}]})
    vault = wiring.vault_of(given, tmp_path, {})

    assert vault.resolve(f"file:{path}", "red", to("api.EXAMPLE.com")) == "value"
    assert vault.resolve(f"file:{path}", "red", to("else.example.com")) is None
    assert vault.resolve(f"file:{tmp_path}/master.key", "red", to("api.example.com")) is None


def test_addresses_plan_and_tokens_are_as_configured(tmp_path: Path) -> None:
    strict, open_ = settings(), settings(upstream={"allow_networks": ["127.0.0.1:9000"]})
    address = ip_address("127.0.0.1")
    assert not wiring.policy_of(strict).permits(address, 9000)
    assert wiring.policy_of(open_).permits(address, 9000)
    assert not wiring.policy_of(open_).permits(address, 9001)

    plan = wiring.default_plan_of(settings(limits={"rate_limit": 7, "daily_quota": None}))
    assert (plan.id, plan.name, plan.rate_limit, plan.daily_quota) == ("", "default", 7, None)

    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    asymmetric = settings(auth={"keys": [{"algorithm": "ES256", "public_key": pem}]})
    with pytest.raises(TokenFault, match="HMAC"):
        wiring.tokens_of(asymmetric, tmp_path).mint(team="t", role="admin", user="u", life_s=1)


async def test_nothing_is_left_of_a_worker_that_was_closed(
    database: Migrated, tmp_path: Path, eventually: Eventually
) -> None:
    before = asyncio.all_tasks()
    async with working(database.dsn, tmp_path) as worker:
        await eventually(lambda: worker.runtime.directory.ready)
        await worker.database.run("SELECT 1")
    connection = await connect(database.dsn)
    theirs = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'service-gateway%'"
    count = await connection.fetchval(f"{theirs} AND datname = current_database()")
    await connection.close()

    assert count == 0
    assert asyncio.all_tasks() == before


async def test_worker_whose_settings_fail_leaves_nothing(
    database: Migrated, tmp_path: Path
) -> None:
    before = asyncio.all_tasks()
    keys = {"master_keys": [{"id": "first", "key": "not base64"}]}
    with pytest.raises(VaultFault, match="not base64"):
        async with working(database.dsn, tmp_path, secrets=keys):
            pass

    assert asyncio.all_tasks() == before


async def test_quotas_go_on_where_the_process_before_had_them(
    database: Migrated, tmp_path: Path, upstream: Upstream, eventually: Eventually
) -> None:
    async with running(database.dsn, tmp_path) as first:
        await first.rows.plan("default", daily_quota=3)
        await first.rows.connector(upstream.url)
        credential = await first.rows.key()
        assert [(await first.call(key=credential)).status for _ in range(2)] == [200, 200]
    async with running(database.dsn, tmp_path) as second:
        await eventually(lambda: "quota counts" not in names_of_tasks())
        statuses = [(await second.call(key=credential)).status for _ in range(2)]

    assert statuses == [200, 429]


async def test_plan_with_a_time_zone_that_nobody_knows_harms_no_other_team(
    database: Migrated, tmp_path: Path, upstream: Upstream, eventually: Eventually
) -> None:
    """It can't be made by the admin API; its own days begin as those of UTC."""
    async with running(database.dsn, tmp_path) as first:
        await first.rows.plan(daily_quota=3)
        await first.rows.plan(team="blue", daily_quota=3, time_zone="right/UTC")
        for team in ("red", "blue"):
            await first.rows.connector(upstream.url, team=team)
        keys = [await first.rows.key(), await first.rows.key("blue")]
        for credential in keys:
            assert [(await first.call(key=credential)).status for _ in range(2)] == [200, 200]
    async with running(database.dsn, tmp_path) as second:
        await eventually(lambda: "quota counts" not in names_of_tasks())
        statuses = [[(await second.call(key=k)).status for _ in range(2)] for k in keys]

    assert statuses == [[200, 429], [200, 429]]


async def test_quota_counts_that_cannot_be_had_are_tried_again_and_a_metric_tells_it(
    database: Migrated, tmp_path: Path, eventually: Eventually
) -> None:
    connection = await connect(database.dsn)
    await connection.execute("ALTER TABLE gateway_usage_record RENAME TO elsewhere")
    async with working(database.dsn, tmp_path) as worker:

        def fails() -> list[Any]:
            shown = worker.runtime.metrics.snapshot()["gateway_background_work_failing"]
            return [value for (name,), value in shown if name == "quota counts"]

        await eventually(lambda: fails() == [[1]])
        await connection.execute("ALTER TABLE elsewhere RENAME TO gateway_usage_record")
        await eventually(lambda: fails() == [[0]], 10)
    await connection.close()


def names_of_tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


async def test_postgresql_that_comes_later_is_found_and_quotas_are_counted_then(
    stoppable: Stoppable, tmp_path: Path, upstream: Upstream, eventually: Eventually
) -> None:
    async with running(stoppable.dsn, tmp_path) as first:
        await first.rows.plan("default", daily_quota=1)
        await first.rows.connector(upstream.url)
        credential = await first.rows.key()
        assert (await first.call(key=credential)).status == 200
    await stoppable.stop()
    async with working(stoppable.dsn, tmp_path) as worker:
        assert not worker.runtime.directory.ready
        await stoppable.start()
        await eventually(lambda: worker.runtime.directory.ready)
        await eventually(lambda: "quota counts" not in names_of_tasks(), 10)
        record = await worker.runtime.directory.key(credential[3:11])
        assert record is not None
        decision = await worker.runtime.limits.decide(record.caller.quotas)

    assert not decision.admitted


async def test_metrics_show_the_directory_and_the_queue(
    gateway: Start, eventually: Eventually
) -> None:
    started = await gateway()

    def values() -> dict[tuple[str, ...], float]:
        shown = families(started.worker.runtime.metrics.snapshot())
        return {(s.name, *s.labels.values()): s.value for f in shown for s in f.samples}

    await eventually(lambda: values()["gateway_dependency_up", "announcements"] == 1)
    await started.rows.plan("default")
    await eventually(lambda: values()["gateway_config_version",] > 1)
    assert values()["gateway_usage_queue_depth",] == 0
