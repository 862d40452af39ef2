"""What is done to a running RabbitMQ from inside, as its administrators do: virtual hosts, users, queues, alarms."""

import secrets
from abc import ABC, abstractmethod

USER = "leads"
FREE_BYTES = 1_000_000
"""RabbitMQ's disk alarm, so low that no test machine raises it."""

_ELECTED_MILLISECONDS = 3000


class Administration(ABC):
    """Of a node that runs Erlang expressions. Each fails with `RuntimeError` where that does."""

    port: int
    """AMQP; the same over restarts."""

    password: str
    """Of `USER`, as the node started with it."""

    @abstractmethod
    def evaluate(self, expressions: str) -> str:
        """Runs Erlang expressions inside the node and returns the last value. Raises `RuntimeError` if they fail."""

    def add_vhost(self, name: str) -> None:
        """A new virtual host in which the node's user may do everything."""
        self.evaluate(
            f'ok = rabbit_vhost:add(<<"{name}">>, <<"test">>),'
            f'ok = rabbit_auth_backend_internal:set_permissions(<<"{USER}">>, <<"{name}">>,'
            f' <<".*">>, <<".*">>, <<".*">>, <<"test">>).'
        )

    def delete_vhost(self, name: str) -> None:
        """Has the virtual host dropped with all that is in it, later and in the background.

        RabbitMQ 3.10 ends all dead-lettering of the node (`rabbit_fifo_dlx_sup`) when a queue goes in the moment in
        which it elects its leader, as it does just after a restart.
        """
        self.evaluate(
            f"spawn(fun () -> timer:sleep({_ELECTED_MILLISECONDS}),"
            f" rabbit_vhost:delete({binary(name)}, {binary('test')}) end)."
        )

    def add_user(
        self, name: str, vhost: str, *, configure: str, write: str, read: str, password: str | None = None
    ) -> str:
        """The URL of a user with just these permissions, in place of an earlier one of that name."""
        password = password or secrets.token_hex(8)
        permissions = ", ".join(binary(pattern) for pattern in (configure, write, read))
        self.evaluate(
            f"catch rabbit_auth_backend_internal:delete_user({binary(name)}, {binary('test')}),"
            f"ok = rabbit_auth_backend_internal:add_user({binary(name)}, {binary(password)}, {binary('test')}),"
            f"ok = rabbit_auth_backend_internal:set_permissions({binary(name)}, {binary(vhost)}, {permissions},"
            f" {binary('test')})."
        )
        return f"amqp://{name}:{password}@127.0.0.1:{self.port}/{vhost}"

    def delete_queue(self, vhost: str, name: str) -> None:
        """With all that is in it."""
        self.evaluate(
            f"{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r({binary(vhost)}, queue, {binary(name)})),"
            f"{{ok, _}} = rabbit_amqqueue:delete(Q, false, false, {binary('test')})."
        )

    def has_queue(self, vhost: str, name: str) -> bool:
        """Whether it is declared."""
        found = self.evaluate(f"rabbit_amqqueue:exists(rabbit_misc:r({binary(vhost)}, queue, {binary(name)})).")
        return "true" in found

    def change_password(self, password: str | None = None) -> None:
        """Of the node's first user, whose connections end; None gives back the one that `url` has."""
        user, password = binary(USER), binary(password or self.password)
        self.evaluate(
            f"ok = rabbit_auth_backend_internal:change_password({user}, {password}, {binary('test')}),"
            f" rabbit_networking:close_all_user_connections({user}, {binary('password changed')})."
        )

    def starve(self, *, memory: bool = False, disk: bool = False) -> None:
        """Set limits that raise RabbitMQ's alarms within seconds, or those that it started with."""
        watermark, free_bytes = "0.000001" if memory else "0.4", 10**18 if disk else FREE_BYTES
        self.evaluate(
            f"ok = vm_memory_monitor:set_vm_memory_high_watermark({watermark}),"
            f" ok = rabbit_disk_monitor:set_disk_free_limit({free_bytes})."
        )

    def watch_no_disk(self) -> None:
        """Raise no alarm for its disk until it is started anew: it finds its end by itself."""
        self.evaluate("ok = rabbit_disk_monitor:set_disk_free_limit(0).")

    def bound_queue(self, vhost: str, name: str, messages: int) -> None:
        """By a policy, as ops do: no more than so many messages, or a few over."""
        self.evaluate(
            f"rabbit_policy:set({binary(vhost)}, {binary('bounded')}, {binary(f'^{name}$')},"
            f" [{{{binary('max-length')}, {messages}}}], 0, {binary('queues')}, {binary('test')})."
        )

    def unbound_queues(self, vhost: str) -> None:
        """After `bound_queue`."""
        self.evaluate(f"ok = rabbit_policy:delete({binary(vhost)}, {binary('bounded')}, {binary('test')}).")

    def delete_exchange(self, vhost: str, name: str) -> None:
        """With all its bindings."""
        self.evaluate(
            f"ok = rabbit_exchange:delete(rabbit_misc:r({binary(vhost)}, exchange, {binary(name)}), false,"
            f" {binary('test')})."
        )

    def delete_bindings(self, vhost: str, exchange: str, queue: str) -> None:
        """All by which the exchange reaches the queue."""
        self.evaluate(
            f"Q = rabbit_misc:r({binary(vhost)}, queue, {binary(queue)}),"
            f" X = rabbit_misc:r({binary(vhost)}, exchange, {binary(exchange)}),"
            f" [_ | _] = [ok = rabbit_binding:remove(B, {binary('test')})"
            " || B <- rabbit_binding:list_for_source_and_destination(X, Q)]."
        )


def binary(text: str) -> str:
    """`text` as Erlang writes a binary."""
    return f"<<{text_of(text)}>>"


def text_of(text: str) -> str:
    """`text` as Erlang writes a string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
