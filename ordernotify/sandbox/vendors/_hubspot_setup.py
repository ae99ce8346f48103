"""What can be set up at the simulated HubSpot (properties, groups, workflows), and how it words an error."""

from __future__ import annotations

from typing import Any

from ordernotify.sandbox._base import Reply, Request, Shelf, json_reply


def error_body(category: str, message: str, **more: Any) -> dict[str, Any]:
    """Return an error as HubSpot words it."""
    error = {"status": "error", "message": message, "category": category}
    return {**error, "correlationId": "aeb5f871-7f07-4993-9211-075dc63e7cbf", **more}


def error(status: int, category: str, message: str, **more: Any) -> Reply:
    """Answer with an error."""
    return json_reply(status, error_body(category, message), **more)


def find_property(request: Request, shelf: Shelf) -> Reply:
    """Answer with a property or a group of properties."""
    name = request.path.rsplit("/", 1)[1]
    found = shelf.kind("groups" if "/groups/" in request.path else "properties").get(name)
    return json_reply(200, found) if found else error(404, "OBJECT_NOT_FOUND", "No such property.")


def make_property(request: Request, shelf: Shelf) -> Reply:
    """Make a property or a group of properties."""
    body, kind = request.json(), "groups" if request.path.endswith("/groups") else "properties"
    required = {"name", "label"} if kind == "groups" else {"name", "label", "groupName", "type", "fieldType"}
    if not isinstance(body, dict) or required - body.keys():
        return error(400, "VALIDATION_ERROR", "Some required fields were not set")
    if kind == "properties" and body["groupName"] not in shelf.kind("groups"):
        return error(400, "VALIDATION_ERROR", "The property group does not exist")
    if body["name"] in shelf.kind(kind):
        return error(409, "OBJECT_ALREADY_EXISTS", "A property of this name already exists.")
    shelf.kind(kind)[body["name"]] = body
    return json_reply(201, body)


def flows(request: Request, shelf: Shelf) -> Reply:
    """List the workflows, or make one."""
    made_flows = shelf.kind("flows")
    if request.method == "GET":
        return json_reply(200, {"results": list(made_flows.values())})
    body = request.json()
    required = {"name", "type", "flowType", "objectTypeId", "startActionId", "nextAvailableActionId", "actions"}
    if not isinstance(body, dict) or required - body.keys():
        return error(400, "VALIDATION_ERROR", "Some required fields were not set")
    made = {**body, "id": str(shelf.next_serial())}
    made_flows[made["id"]] = made
    return json_reply(200, made)
