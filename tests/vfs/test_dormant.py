"""fs9.vfs.dormant: paths of handles follow renames and removals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fs9.path import is_within
from fs9.principal import Principal
from fs9.vfs.dormant import Handles

ANN = Principal("ann", "acme")
PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda n: "/" + "/".join(n))
IDS = st.sampled_from([f"h{number}" for number in range(6)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), IDS, PATHS),
        st.tuples(st.just("discard"), IDS, st.just("")),
        st.tuples(st.just("move"), PATHS, PATHS),
        st.tuples(st.just("lose"), PATHS, st.sampled_from(["", "idh0"])),
    ),
    max_size=30,
)


def paths(handles: Handles) -> dict[str, str]:
    return {handle_id: handles.get(handle_id)[0] for handle_id in handles}


@given(STEPS)
def test_as_a_plain_dict_of_paths(steps):
    """Invariant tested: after any steps each handle has the path that a scan gives it."""
    handles, model = Handles(), {}
    for step, first, second in steps:
        if step == "add":
            handles.add(first, second, 1, f"id{first}", ANN)
            model[first] = second
        elif step == "discard":
            handles.discard(first)
            model.pop(first, None)
        elif step == "move":
            if is_within(second, first) or is_within(first, second):
                continue  # no provider does that
            handles.move(first, second)
            for handle_id, path in model.items():
                if path and is_within(path, second):
                    model[handle_id] = ""
                elif path and is_within(path, first):
                    model[handle_id] = second + path[len(first) :]
        else:
            handles.lose(first, second)
            for handle_id, path in model.items():
                older = path == first and f"id{handle_id}" != second
                if path and (older if second else is_within(path, first)):
                    model[handle_id] = ""
        assert paths(handles) == model
    for handle_id in model:
        handles.discard(handle_id)
    assert len(handles) == 0
    assert not handles._root.children  # nothing is left of the paths


def test_a_handle_without_a_path_can_still_be_closed():
    handles = Handles()
    handles.add("h", "/a", 3, "1", ANN)
    handles.lose("/a")
    assert "h" in handles
    assert handles.get("h") == ("", 3, "1", ANN)
    handles.add("h", "/b", 3, "1", ANN)
    assert handles.get("h") == ("/b", 3, "1", ANN)
    handles.clear()
    assert (len(handles), handles.get("h")) == (0, None)
