"""Few doors: what each room shows is a sorted table, and the front door names things that exist."""

import importlib
import inspect
import pkgutil

import pytest

import commentary_hub
import commentary_hub_server

ROOMS = [name for _, name, is_package in pkgutil.iter_modules(commentary_hub.__path__) if is_package]


def exported(module):
    return list(getattr(module, "__all__", []))


def in_order(names):
    """Constants, classes, functions, as the linter sorts them."""
    return sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_shows_a_sorted_table_of_what_it_has(room):
    module = importlib.import_module(f"commentary_hub.{room}")
    names = exported(module)
    assert names == in_order(names)
    assert len(set(names)) == len(names)
    assert all(hasattr(module, name) for name in names)
    assert not [
        name for name in names if inspect.isroutine(getattr(module, name)) and not getattr(module, name).__doc__
    ]


def test_the_front_door_opens_every_name_and_knows_no_other():
    assert commentary_hub.__all__ == in_order(commentary_hub.__all__)
    for name in commentary_hub.__all__:
        assert getattr(commentary_hub, name) is not None
    assert set(dir(commentary_hub)) == set(commentary_hub.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = commentary_hub.nothing


def test_the_front_door_evaluates_what_it_loads():
    """As the command line does: a stored commentary goes in, not the parts of an evaluation."""
    from commentary_hub import recipes

    assert commentary_hub.evaluate is recipes.evaluate
    assert commentary_hub.verify is recipes.verify


def test_rooms_are_entered_by_their_door():
    """No module outside a room imports a private module of it (the server's rooms too)."""
    for package in (commentary_hub, commentary_hub_server):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" in found.name:
                continue
            source = importlib.util.find_spec(found.name).loader.get_source(found.name) or ""
            room = found.name.rsplit(".", 1)[0] if not found.ispkg else found.name
            for line in source.splitlines():
                words = line.split()
                if not line.lstrip().startswith("from commentary_hub") or "import" not in words:
                    continue
                target = words[1]
                owner, _, last = target.rpartition(".")
                if last.startswith("_"):
                    assert f"{room}.".startswith(f"{owner}."), f"{found.name} looks into {target}"
