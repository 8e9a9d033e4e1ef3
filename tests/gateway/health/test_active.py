"""Health with a real database: who checks, what follows, and what other processes know of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.clock import SystemClock
from gateway.database import Database
from gateway.health.active import Health
from gateway.options import load
from gateway.prometheus import families
from gateway.secrets.vault import MasterKey, Vault
from gateway.settings import HealthSettings
from gateway.tasks import Tasks
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.connections import Upstreams
from tests.dataplane import LOOPBACK, Gateway, Migrated, Rows, connect, endpoint
from tests.gateway.stoppable import Stoppable
from tests.gateway.trying import Hands, closed_port, hangs, status
from tests.loopback import Upstream, say_ok

Eventually = Callable[..., Awaitable[None]]
Make = Callable[..., Awaitable[Health]]
Start = Callable[..., Awaitable[Gateway]]

VAULT = Vault([MasterKey("first", bytes(range(32)))], [], {})
QUICK = {"timeout_s": 0.5, "unhealthy_after": 2, "healthy_after": 2}


class Table:
    """The rows of a database: connectors to make, and what is known of them."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self.rows = Rows(connection, VAULT)
        self._connection = connection

    async def publish(self, url: str, slug: str = "up", team: str = "red", **more: Any) -> str:
        """A published connector that is checked; answers its id."""
        given = {"health_check_path": "/health", **more}
        return str(await self.rows.connector(url, slug=slug, team=team, **given))

    async def due(self) -> None:
        """Every check is due now."""
        await self.rows.run("UPDATE gateway_health SET due_at = now()")

    async def status(self, id_: str) -> str:
        """What a connector counts as."""
        found: str = await self.value(
            "SELECT status FROM gateway_health WHERE connector_id = $1", UUID(id_)
        )
        return found

    async def checks(self) -> int:
        """How many checks of targets were recorded."""
        count: int = await self.value("SELECT count(*) FROM gateway_health_check")
        return count

    async def value(self, statement: str, *values: Any) -> Any:
        """The first value of a statement."""
        return await self._connection.fetchval(statement, *values)

    async def until(self, condition: Callable[[], Awaitable[Any]]) -> None:
        """Have everything checked again and again until a condition holds; 400 times at most."""
        for _ in range(400):
            if await condition():
                return
            await self.due()
            await self.value("SELECT pg_sleep(0.01)")
        raise AssertionError("it never came true")


@pytest.fixture
async def table(database: Migrated) -> AsyncIterator[Table]:
    connection = await connect(database.dsn)
    yield Table(connection)
    await connection.close()


async def health_at(dsn: str, stack: AsyncExitStack, clock: Any = None, **given: Any) -> Health:
    """A checker of its own, as another process has it; quick, but not started."""
    database = Database(dsn, timeout_s=1)
    await database.open()
    stack.push_async_callback(database.close)
    upstreams = Upstreams(AddressPolicy(map(Allowed.parse, LOOPBACK)))
    stack.push_async_callback(upstreams.close)
    settings = load(HealthSettings, QUICK | given)
    made = Health(database, VAULT, upstreams, settings, clock or SystemClock(), look_every_s=0.01)
    stack.push_async_callback(made.close)
    return made


@pytest.fixture
async def make(database: Migrated) -> AsyncIterator[Make]:
    """Make a checker: `await make()` as a process has it, `await make(unhealthy_after=1)`."""
    async with AsyncExitStack() as stack:

        async def new(clock: Any = None, **given: Any) -> Health:
            return await health_at(database.dsn, stack, clock, **given)

        yield new


async def test_publish_is_checked_at_once_and_others_know(
    table: Table, make: Make, upstream: Upstream, eventually: Eventually
) -> None:
    checker, other = await make(), await make()
    checker.start()
    other.start()
    await table.publish(upstream.url)
    await eventually(lambda: checker.shares() == other.shares() == {"up": 1.0})

    assert upstream.call.target == "/health"
    assert await table.checks() == 1


async def test_upstream_that_flips_changes_its_status_after_enough_checks(
    table: Table, make: Make, upstream: Upstream, eventually: Eventually
) -> None:
    checker = await make()
    checker.start()
    id_ = await table.publish(upstream.url)
    label = f"127.0.0.1:{upstream.port}"
    await eventually(lambda: checker.shares() == {"up": 1.0})

    for script, share in ((status(503), 0.0), (say_ok, 1.0), (status(404), 0.0)):
        upstream.script, before = script, len(upstream.calls)

        async def has_changed(share: float = share) -> bool:
            return checker.shares() == {"up": share}

        await table.until(has_changed)
        assert len(upstream.calls) >= before + 2
        assert set(checker.unhealthy(id_)) == (set() if share else {label})
        assert await table.status(id_) == ("healthy" if share else "unhealthy")


async def test_one_failure_changes_nothing(table: Table, make: Make, upstream: Upstream) -> None:
    checker = await make()
    id_ = await table.publish(upstream.url)
    await checker.check_now("red", [], 10)
    upstream.script = status(503)
    await checker.check_now("red", [], 10)
    assert await table.status(id_) == "healthy"
    await checker.check_now("red", [], 10)

    assert await table.status(id_) == "unhealthy"
    since = "SELECT t.since = t.checked_at AND h.since = t.since FROM gateway_health AS h"
    assert await table.value(f"{since} JOIN gateway_health_target AS t USING (connector_id)")


async def test_each_check_is_done_by_one_process_and_by_another_when_that_dies(
    table: Table, make: Make, upstream: Upstream, eventually: Eventually
) -> None:
    first, second = await make(), await make()
    first.start()
    second.start()
    for number in range(20):
        await table.publish(upstream.url, f"c{number}")
    await eventually(lambda: len(first.shares()) == len(second.shares()) == 20)
    assert (len(upstream.calls), await table.checks()) == (20, 20)

    await first.close()
    await table.due()
    await eventually(lambda: len(upstream.calls) == 40)


async def test_check_is_due_again_after_an_interval(
    table: Table, make: Make, upstream: Upstream
) -> None:
    checker = await make(interval_s=100)
    await table.publish(upstream.url)
    await checker._claim()  # noqa: SLF001 - one turn of what runs for good
    wait = await table.value("SELECT extract(epoch FROM due_at - now())::float FROM gateway_health")

    assert 85 < wait < 110.5


async def test_hung_upstreams_of_one_team_leave_another_all_its_checks(
    table: Table, make: Make, upstream: Upstream, eventually: Eventually
) -> None:
    checkers = [await make(timeout_s=60, most_at_once=8) for _ in range(2)]
    for number in range(3):
        await table.publish(upstream.url, f"c{number}", "blue")
    for checker in checkers:
        checker.start()
    await eventually(lambda: all(len(checker.shares()) == 3 for checker in checkers))
    async with Upstream() as hung:
        hung.script = hangs
        for number in range(40):
            await table.publish(hung.url, f"c{number}", targets=[{"url": hung.url}])
        await eventually(lambda: len(hung.calls) == 8)
        for turn in range(2, 10):
            await table.rows.run("UPDATE gateway_health SET due_at = now() WHERE team_id = 'blue'")
            await eventually(lambda turn=turn: len(upstream.calls) == 3 * turn)
        assert len(hung.calls) == 8, "half of the slots of each process"
        for checker in checkers:
            await checker.close()


async def test_hung_targets_of_one_connector_leave_others_their_checks(
    table: Table, make: Make, upstream: Upstream, eventually: Eventually
) -> None:
    checker = await make(timeout_s=60, most_at_once=4)
    await table.publish(upstream.url, team="blue")
    checker.start()
    await eventually(lambda: checker.shares() == {"up": 1.0})
    async with AsyncExitStack() as stack:
        hung = [await stack.enter_async_context(Upstream()) for _ in range(6)]
        for each in hung:
            each.script = hangs
        await table.publish(hung[0].url, targets=[{"url": each.url} for each in hung])
        await eventually(lambda: sum(len(each.calls) for each in hung) == 2)
        await table.rows.run("UPDATE gateway_health SET due_at = now() WHERE team_id = 'blue'")
        await eventually(lambda: len(upstream.calls) == 2)
        await checker.close()


async def test_only_team_has_all_slots(
    table: Table, make: Make, upstream: Upstream, eventually: Eventually
) -> None:
    upstream.script = hangs
    checker = await make(timeout_s=60, most_at_once=8)
    for number in range(10):
        await table.publish(upstream.url, f"c{number}")
    checker.start()
    await eventually(lambda: len(upstream.calls) == 8)
    await checker.close()


async def test_connector_that_stays_unhealthy_is_checked_ever_more_seldom_until_it_is_better(
    table: Table, make: Make, upstream: Upstream
) -> None:
    checker = await make(interval_s=100, unhealthy_after=1, healthy_after=2)
    await table.publish(upstream.url)
    upstream.script = status(503)
    await checker.check_now("red", [], 1)

    async def wait(failing_s: int) -> float:
        since = "UPDATE gateway_health SET due_at = now(), since = now() - $1 * interval '1 second'"
        await table.value(since, failing_s)
        assert len(await checker._due()) == 1  # noqa: SLF001 - one turn of what runs for good
        left = "SELECT extract(epoch FROM due_at - now())::float / 100 FROM gateway_health"
        return float(await table.value(left))

    for failing_s, intervals in ((0, 1), (100, 1), (200, 2), (300, 3), (400, 4), (86_400, 4)):
        assert 0.85 * intervals < await wait(failing_s) < 1.15 * intervals
    await checker.check_now("red", [], 1)
    until = "SELECT extract(epoch FROM valid_until - due_at)::float FROM gateway_health"
    assert await table.value(until) == pytest.approx(200.5), "what is known lasts as long"
    upstream.script = say_ok
    await checker.check_now("red", [], 1)

    assert 0.85 < await wait(86_400) < 1.15, "soon, though it counts as unhealthy"


async def test_unpublished_connector_is_checked_no_more_and_forgotten(
    table: Table, make: Make, upstream: Upstream
) -> None:
    checker = await make()
    id_ = await table.publish(upstream.url)
    await checker.check_now("red", [], 10)
    await checker._read()  # noqa: SLF001 - what is done each minute
    assert checker.shares() == {"up": 1.0}
    await table.rows.run("UPDATE service_connector SET status = 'draft', published_version = NULL")
    await checker._read()  # noqa: SLF001 - see above

    assert checker.shares() == {}
    assert await checker.check_now("red", [UUID(id_)], 10) == []
    assert await table.checks() == 1


async def test_connector_without_a_path_is_not_checked(
    table: Table, make: Make, upstream: Upstream
) -> None:
    checker = await make()
    await table.rows.connector(upstream.url)

    assert await checker.check_now("red", [], 10) == []
    assert await table.value("SELECT count(*) FROM gateway_health") == 0


async def test_new_version_is_checked_at_once_with_its_own_targets(
    table: Table, make: Make, upstream: Upstream
) -> None:
    checker = await make()
    gone = f"http://127.0.0.1:{closed_port()}"
    id_ = await table.publish(upstream.url, targets=[{"url": gone}, {"url": upstream.url}])
    await checker.check_now("red", [], 10)
    assert await table.status(id_) == "degraded"
    await table.rows.run("UPDATE gateway_health SET due_at = now() + interval '1 day'")
    definition = {"upstream_base_url": upstream.url, "health_check_path": "/v2"}
    frozen = {"id": id_, "slug": "up", "definition": definition, "endpoints": [endpoint()]}
    await table.rows.publish(UUID(id_), frozen, 2)

    assert await table.value("SELECT due_at <= now() FROM gateway_health")
    await checker.check_now("red", [], 10)
    assert upstream.calls[-1].target == "/v2"
    assert await table.value("SELECT count(*) FROM gateway_health_target") == 1
    assert await table.status(id_) == "healthy"


async def test_what_was_found_long_ago_says_nothing_any_more(
    table: Table, make: Make, upstream: Upstream
) -> None:
    checker = await make(unhealthy_after=3)
    id_ = await table.publish(upstream.url)
    await checker.check_now("red", [], 10)
    await table.rows.run("UPDATE gateway_health SET valid_until = now()")
    await checker._read()  # noqa: SLF001 - what is done each minute
    assert checker.shares() == {}
    upstream.script = status(500)
    await checker.check_now("red", [], 10)

    assert await table.status(id_) == "unhealthy", "as after a first check"


async def test_least_share_counts_where_teams_have_one_slug(
    table: Table, make: Make, upstream: Upstream
) -> None:
    checker = await make()
    await table.publish(upstream.url)
    await table.publish(f"http://127.0.0.1:{closed_port()}", team="blue")
    await checker.check_now("red", [], 10)
    await checker.check_now("blue", [], 10)
    await checker._read()  # noqa: SLF001 - what is done each minute

    assert checker.shares() == {"up": 0.0}


async def test_what_was_read_holds_for_a_while_and_then_no_target_is_left_out(
    table: Table, make: Make, clock: Hands
) -> None:
    checker = await make(clock)
    id_ = await table.publish(f"http://127.0.0.1:{closed_port()}")
    await checker.check_now("red", [], 10)
    await checker._read()  # noqa: SLF001 - what is done each minute
    clock.forward(119)
    assert (len(checker.unhealthy(id_)), checker.shares()) == (1, {"up": 0.0})
    clock.forward(1)

    assert (len(checker.unhealthy(id_)), checker.shares()) == (0, {})


async def test_checks_go_on_after_the_database_was_away(
    stoppable: Stoppable,
    upstream: Upstream,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with AsyncExitStack() as stack:
        connection = await connect(stoppable.dsn)
        await Table(connection).publish(upstream.url)
        checker = await health_at(stoppable.dsn, stack)
        checker.start()
        await eventually(lambda: checker.shares() == {"up": 1.0})
        await connection.close()
        await stoppable.stop()
        found = await checker._checks.check(  # noqa: SLF001 - a check that was under way
            {"id": UUID(int=1), "team_id": "red", "slug": "x", "secrets": []}
            | {"definition": {"upstream_base_url": upstream.url}}
        )
        checker._found.append(found)  # noqa: SLF001 - see above
        await eventually(
            lambda: "health: write" in [r.__dict__.get("task") for r in caplog.records]
        )
        assert checker.shares() == {"up": 1.0}, "what was known holds"

        await stoppable.start()
        await eventually(lambda: not checker._found, 10)  # noqa: SLF001 - see above
        connection = await connect(stoppable.dsn)
        before = len(upstream.calls)
        await Table(connection).due()
        await eventually(lambda: len(upstream.calls) > before, 10)
        await connection.close()


_WAITING = (
    "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
    " WHERE NOT l.granted AND d.datname = current_database()"
)


async def test_what_is_read_whole_while_changes_are_read_is_not_lost(
    table: Table, make: Make, upstream: Upstream
) -> None:
    checker, tasks = await make(), Tasks()
    await table.publish(upstream.url)
    await checker.check_now("red", [], 10)
    await checker._read()  # noqa: SLF001 - as it repeats in the background
    assert checker.shares() == {"up": 1.0}
    await table.rows.run("UPDATE gateway_health SET changed_at = now() - interval '1 hour'")
    async with table.rows.connection.transaction():
        await table.rows.run("LOCK TABLE gateway_health")
        reading = tasks.start(checker._read_changes(), "read")  # noqa: SLF001 - see above
        while not await table.value(_WAITING):  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.005)
        checker._known = {}  # noqa: SLF001 - nothing is checked any more, as another read has found
    await reading

    assert checker.shares() == {}


async def test_purged_connectors_check_that_was_under_way_is_dropped(
    table: Table, make: Make, upstream: Upstream
) -> None:
    checker = await make()
    await table.publish(upstream.url)
    rows = await checker._database.rows(  # noqa: SLF001 - between the claim and the end of the check
        "SELECT id, team_id, slug, '{}'::jsonb AS secrets FROM service_connector"
    )
    definition = {"upstream_base_url": upstream.url, "health_check_path": "/"}
    given = {**dict(rows[0]), "definition": definition, "secrets": []}
    found = await checker._checks.check(given)  # noqa: SLF001 - see above
    await table.rows.run("DELETE FROM service_connector")
    await checker._store([found])  # noqa: SLF001 - see above

    assert await table.checks() == 0


async def test_check_that_is_stored_twice_counts_once(
    table: Table, make: Make, upstream: Upstream
) -> None:
    checker = await make()
    await table.publish(upstream.url)
    (found,) = await checker.check_now("red", [], 10)
    await checker._store([found])  # noqa: SLF001 - after a commit whose answer was lost

    assert await table.checks() == 1
    assert await table.value("SELECT sum(checks) FROM gateway_health_quarter") == 1


async def test_partitions_are_made_and_dropped_by_retention(table: Table, make: Make) -> None:
    checker = await make(keep_days=2)
    await table.value("SELECT make_partition('gateway_health_check', current_date - 3)")
    await checker._keep_partitions()  # noqa: SLF001 - what is done each hour
    names = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'gateway_health_check'::regclass"

    assert await table.value(names) == 5  # yesterday to the day after tomorrow, and the other


async def test_of_ten_thousand_due_checks_each_team_gets_its_share(
    table: Table, make: Make
) -> None:
    await table.rows.run("SET session_replication_role = replica")
    await table.rows.run(
        "INSERT INTO gateway_health (connector_id, team_id, due_at)"
        " SELECT gen_random_uuid(), CASE WHEN n % 1000 = 0 THEN 'blue' ELSE 'red' END,"
        " now() - interval '1 day' + n * interval '1 second' FROM generate_series(1, 10000) AS n"
    )
    checkers = [await make(most_at_once=8) for _ in range(2)]
    await asyncio.gather(*(checker._due() for checker in checkers))  # noqa: SLF001 - both at once
    claimed = "SELECT count(*) FROM gateway_health WHERE due_at > now() AND team_id = $1"

    assert [await table.value(claimed, team) for team in ("red", "blue")] == [8, 8]


async def test_due_checks_latest_and_history_are_found_by_index(table: Table) -> None:
    """Of 10,000 connectors and 100,000 checks none is read that isn't asked for."""
    await table.rows.run("SET session_replication_role = replica")
    await table.rows.run(
        "INSERT INTO gateway_health (connector_id, team_id, due_at)"
        " SELECT gen_random_uuid(), 'red', now() + interval '1 hour' FROM generate_series(1, 10000)"
    )
    await table.rows.run(
        "INSERT INTO gateway_health_check"
        " SELECT h.connector_id, now() - n * interval '1 minute', gen_random_uuid(), 'red', 'x',"
        " 'healthy', 200, 1, '' FROM gateway_health AS h, generate_series(1, 10) AS n"
    )
    await table.rows.run("ANALYZE gateway_health, gateway_health_check")
    for statement, index in (
        ("SELECT 1 FROM gateway_health WHERE due_at <= now() ORDER BY due_at LIMIT 50", "due_idx"),
        ("SELECT 1 FROM gateway_health WHERE changed_at >= now()", "changed_idx"),
        (
            "SELECT 1 FROM gateway_health_check WHERE team_id = 'red' AND (at, id) < (now(), id)"
            " AND connector_id = '00000000-0000-0000-0000-000000000007' ORDER BY at DESC, id DESC LIMIT 50",
            "pkey",
        ),
    ):
        plan = await table.rows.connection.fetch(f"EXPLAIN {statement}")
        text = "\n".join(row[0] for row in plan)
        assert index in text, text
        assert "Seq Scan" not in text, text


async def test_gateway_leaves_an_unhealthy_target_out_and_its_metric_says_so(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    """The one that checks find unhealthy answers requests well: only checks speak against it."""
    started = await gateway()
    async with Upstream() as other:

        async def unhealthy(call: Any) -> None:
            await call.answer(503 if call.target == "/health" else 200)

        other.script = unhealthy
        await started.rows.plan("default")
        key = await started.rows.key()
        targets = [{"url": upstream.url}, {"url": other.url}]
        await started.rows.connector(upstream.url, targets=targets, health_check_path="/health")
        health = started.worker.health
        await eventually(lambda: health.shares() == {"up": 0.5}, 10)
        assert {(await started.call(path="/up/x", key=key)).status for _ in range(6)} == {200}

        assert [call.target for call in other.calls if call.target != "/health"] == []
        shown = families(started.worker.runtime.metrics.snapshot())
        values = {(s.name, *s.labels.values()): s.value for f in shown for s in f.samples}
        assert values["gateway_upstream_healthy", "up"] == 0.5


async def test_connector_that_nobody_has_used_has_its_metric(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    started = await gateway()
    await started.rows.connector(f"http://127.0.0.1:{closed_port()}", health_check_path="/")
    await eventually(lambda: started.worker.health.shares() == {"up": 0.0}, 10)
    shown = families(started.worker.runtime.metrics.snapshot())
    values = {(s.name, *s.labels.values()): s.value for f in shown for s in f.samples}

    assert values["gateway_upstream_healthy", "up"] == 0.0


async def test_checks_that_are_switched_off_send_nothing(
    gateway: Start, upstream: Upstream
) -> None:
    started = await gateway(health={"enabled": False})
    await started.rows.connector(upstream.url, health_check_path="/")
    await started.rows.plan("default")
    key = await started.rows.key()
    assert (await started.call(key=key)).status == 200

    assert len(upstream.calls) == 1
    assert started.worker.health.shares() == {}
