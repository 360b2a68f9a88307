"""Dicts by attribute: what is missing is an AttributeError, and looking creates nothing that was not asked
for."""

import copy
import pickle

import pytest

from fastrl.toolkit.utils.memories import DefaultMemory, SimpleMemory


@pytest.mark.parametrize("kind", [SimpleMemory, DefaultMemory])
def test_attributes_are_keys(kind):
    memory = kind({"a": 1}, b=2)
    memory.c = 3
    assert (
        isinstance(memory, dict) and memory == {"a": 1, "b": 2, "c": 3} and memory.a == 1 and memory["c"] == 3
    )
    del memory.a
    assert "a" not in memory
    with pytest.raises(AttributeError, match="there is no 'a' in this"):
        del memory.a
    with pytest.raises(AttributeError, match="'items' is an attribute of every"):
        memory.items = 3
    memory["items"] = 3
    assert memory["items"] == 3 and callable(memory.items)


@pytest.mark.parametrize("kind", [SimpleMemory, DefaultMemory])
def test_copies_and_pickles(kind):
    memory = kind(a=[1])
    copies = [copy.copy(memory), copy.deepcopy(memory), pickle.loads(pickle.dumps(memory)), memory.copy()]
    for one in copies:
        assert type(one) is kind and one == memory and one is not memory
        one.new = 1
    assert copies[0].a is memory.a and copies[1].a is not memory.a and copies[3].a is memory.a
    assert list(memory) == ["a"]


def test_a_missing_attribute_of_a_simple_memory_is_an_attribute_error():
    memory = SimpleMemory(a=1)
    with pytest.raises(AttributeError, match="there is no 'b' in this SimpleMemory"):
        _ = memory.b
    assert not hasattr(memory, "b") and getattr(memory, "b", 5) == 5
    with pytest.raises(KeyError):
        memory["b"]


def test_initial_keys_are_lists_of_their_own():
    memory = SimpleMemory(initial_keys=["a", "b"], c=1)
    memory.a.append(1)
    assert memory == {"a": [1], "b": [], "c": 1}


def test_a_default_memory_starts_lists_but_not_under_private_names():
    memory = DefaultMemory(a=1)
    memory.losses.append(2)
    memory["more"].append(3)
    assert memory == {"a": 1, "losses": [2], "more": [3]}
    for name in ("__deepcopy__", "__array__", "_repr_html_"):
        assert not hasattr(memory, name)
    assert set(memory) == {"a", "losses", "more"}
    one = copy.copy(memory)
    one.fresh.append(1)  # a copy still starts lists
    assert "fresh" not in memory
