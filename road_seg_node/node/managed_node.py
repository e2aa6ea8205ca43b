# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node in which an error in a transition leaves it in the state where it was, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.service import Service


class ManagedNode(LifecycleNode):
    """What `ros2 lifecycle` moves. A derived class overrides configure(), activate(), deactivate() and cleanup().

    Each of them either does all of its part or raises and leaves nothing of it behind.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.failure = ""  # why the last transition failed, as a sentence; empty after one that did not
        self._error: Exception | None = None
        self._attempted = False  # whether a transition has got as far as its callback
        # Jazzy's rclpy lets its exception about a transition that the state does not have end the executor; neither it
        # nor Kilted's says anything of an exception in a callback.
        service = self._service(ChangeState)
        change_state = service.callback
        service.callback = lambda request, response: self._guard(change_state, request, response)
        self._get_state = self._service(GetState).callback  # what `ros2 lifecycle get` calls

    @property
    def state(self) -> str:
        """ "unconfigured", "inactive", "active", "finalized", or the name of the transition under way."""
        response: GetState.Response = self._get_state(GetState.Request(), GetState.Response())
        return str(response.current_state.label)

    def start(self) -> None:
        """Configures and activates; raises what configure() or activate() raised."""
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                assert self._error is not None
                raise self._error

    def configure(self) -> None:
        """From unconfigured to inactive."""

    def activate(self) -> None:
        """From inactive to active."""

    def deactivate(self) -> None:
        """From active to inactive; called too where nothing is active."""

    def cleanup(self) -> None:
        """From inactive to unconfigured; called too where nothing is configured."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("configured", self.configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("activated", self.activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("deactivated", self.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("cleaned up", self.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("shut down", self._shut_down)

    def _service(self, kind: type) -> Service:
        return next(service for service in self.services if service.srv_type is kind)

    def _shut_down(self) -> None:
        self.deactivate()
        self.cleanup()

    def _attempt(self, what: str, step: Callable[[], Any]) -> TransitionCallbackReturn:
        self._attempted = True
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the node stays where it was
            self._error, self.failure = error, f"The node could not be {what}: {str(error).rstrip('.')}."
            return TransitionCallbackReturn.FAILURE
        self._error, self.failure = None, ""
        return TransitionCallbackReturn.SUCCESS

    def _guard(self, change_state: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
        self._attempted = False
        try:
            response = change_state(request, response)
        except RuntimeError:  # Jazzy's rclpy, of a transition that the state does not have; Kilted's answers like this
            response.success = False
        if response.success:
            return response
        if self._attempted:
            self.get_logger().error(f"{self.failure} It stays {self.state}.")
        else:
            asked = request.transition.label or request.transition.id
            self.get_logger().error(f"The node is {self.state}, from where there is no transition {asked}.")
        return response
