"""The composition root: makes every part of the agent, joins them, runs their loops, and ends them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tortie.agent import process
from tortie.agent.admin_server import AdminServer
from tortie.agent.cni_gate import Gate
from tortie.agent.cni_server import CNIServer
from tortie.agent.config import AgentConfig
from tortie.agent.http import HttpThread, Response
from tortie.agent.node import Node
from tortie.agent.operations import Operations
from tortie.agent.refresh import ProcessSettings, RestartNeeded
from tortie.aio.tasks import Group, supervise
from tortie.datastore.open import chosen_url
from tortie.errors import TortieError, UsageError
from tortie.observe import log
from tortie.observe.health import Health, Verdict
from tortie.observe.metrics import CONTENT_TYPE, Metrics

logger = log.get("agent")


async def run(config: AgentConfig) -> int:
    """Run the agent of one node until SIGTERM or SIGINT; returns the exit code of the process.

    0: stopped as asked. 129: the configuration changed in a way that needs a new start. Raises `UsageError` when it cannot
    start here (a second agent, an unusable directory). Anything else that ends a loop is raised: the service manager
    starts the agent again, and the new one adopts what is in the kernel.
    """
    log.configure(level=config.log_level or "info", format="json" if config.log_format == "json" else "text")
    process.tame_interpreter()
    _make_directories(config)
    with process.OnlyAgent(config.paths.lock):
        agent = Agent(config)
        task = asyncio.ensure_future(agent.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)
        try:
            await task
        except Stopped:
            logger.info("stopped; routes, rules and interfaces stay")
            return 0
        except RestartNeeded as reason:
            logger.info("ending to be started anew", reason=str(reason))
            return process.RESTART_EXIT_CODE
        except TortieError as error:
            logger.error("ending", reason=str(error))
            raise
        except Exception:
            logger.exception("ending by a defect; the service manager starts the agent again")
            raise
        finally:
            await agent.close()
    return 1


def _make_directories(config: AgentConfig) -> None:
    for directory in (config.paths.run, config.paths.state):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the directory {directory}: {error.strerror}") from None


class Stopped(Exception):
    """The agent was asked to end, and has answered what it had accepted."""


class Agent:
    """One run of the agent."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._health = Health()
        self._metrics = Metrics()
        self._metrics.host.labels(config.node).set(1)
        self._http = HttpThread()
        self._url = chosen_url(config.datastore, config=config.file)
        self._operations = Operations(node=config.node, datastore=self._url, health=self._health)
        self._stopping = asyncio.Event()
        self._work = Group(1, lambda name, error: None)  # the loop that waits for it hears of its error
        self._cni: asyncio.Task[None] | None = None
        self._gate = Gate(lambda: "; ".join(self._health.readiness().reasons))
        self._node = Node(
            config,
            health=self._health,
            metrics=self._metrics,
            operations=self._operations,
            gate=self._gate,
            on_settings=self._take_settings,
        )

    async def run(self) -> None:
        """Everything, until it is cancelled or something breaks."""
        logger.info("starting", node=self._config.node, datastore=self._url, pid=os.getpid())
        self._http.start()
        await self._take_settings(self._node.settings.resolve())
        admin = AdminServer(self._config.paths.admin_socket, self._operations.table())
        await supervise(
            {
                "admin": admin.run,
                "cni": self._serve_cni,
                "end": self._end,
                "watchdog": lambda: process.watch_loop(self._metrics),
                "node": self._node.run,
            }
        )

    def stop(self) -> None:
        """End soon: answer what runtimes have asked, while the dataplane still works, then everything else."""
        self._stopping.set()

    async def _serve_cni(self) -> None:
        server = CNIServer(self._config.paths.cni_socket, self._gate, on_served=self._served)
        self._cni = self._work.start("cni", server.run())
        await asyncio.wait({self._cni})
        if not self._cni.cancelled():
            await self._cni
        await asyncio.Event().wait()

    async def _end(self) -> None:
        await self._stopping.wait()
        if self._cni is not None:
            self._cni.cancel()
            await asyncio.wait({self._cni})
        raise Stopped

    async def close(self) -> None:
        """Let go of everything that is ours alone; what is in the kernel stays."""
        await self._work.close(grace_seconds=0)
        self._operations.close()
        await self._node.close()
        await self._http.close()
        sys.stderr.flush()

    def _served(self, command: str, seconds: float, code: int) -> None:
        self._metrics.cni_time.labels(command).observe(seconds)
        if code:
            self._metrics.cni_failures.labels(command, str(code)).inc()

    async def _take_settings(self, settings: ProcessSettings) -> None:
        """Live with what FelixConfiguration says now."""
        level = self._config.log_level or settings.log_level
        log.configure(level=level, format="json" if self._config.log_format == "json" else "text")
        self._health.override_timeouts(dict(settings.health_timeouts))
        await self._listen(
            "health",
            settings.health_enabled,
            settings.health_host,
            settings.health_port,
        )
        await self._listen(
            "metrics",
            settings.metrics_enabled,
            settings.metrics_host,
            settings.metrics_port,
        )

    async def _listen(self, name: str, enabled: bool, host: str, port: int) -> None:
        if not enabled:
            await self._http.unlisten(name)
            return
        health = {
            "/liveness": lambda: _show(self._health.liveness()),
            "/readiness": lambda: _show(self._health.readiness()),
        }
        metrics = {"/metrics": lambda: Response(200, self._metrics.render(), CONTENT_TYPE)}
        try:
            await self._http.listen(name, host, port, health if name == "health" else metrics)
        except TortieError as error:
            # Nobody loses the network because a port is taken.
            logger.error("cannot serve", what=name, error=str(error))


def _show(verdict: Verdict) -> Response:
    if verdict.ok:
        return Response(200, b"ok\n")
    return Response(503, "".join(f"{reason}\n" for reason in verdict.reasons).encode())
