"""Addresses: what is a package, what a path, what a Hub id, and what is none of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftlab.core.errors import SourceError
from peftlab.data.locations import Location, parse_location, require_online, resolve_location
from peftlab.data.packages import parse_package_address

WORD = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@pytest.mark.parametrize("text", ["bert-base-uncased", "nyu-mll/glue", "Qwen/Qwen2.5-0.5B", "a/b_c"])
def test_names_that_are_not_on_disk_are_hub_ids(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    location = parse_location(text)
    assert location.kind == "hub"
    assert resolve_location(location, offline=True) == text


@pytest.mark.parametrize(
    "text", ["./x", "../x", "~/x", "/x/y", "tweets.csv", "data/tweets.tsv", "m.gguf", "a/b/c", "x/"]
)
def test_what_looks_like_a_path_is_one_although_it_does_not_exist(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_location(text).kind == "path"


def test_paths_start_at_the_recipe_s_folder_then_at_the_working_directory(tmp_path, monkeypatch):
    recipes, work = tmp_path / "recipes", tmp_path / "work"
    for folder in (recipes, work):
        folder.mkdir()
    monkeypatch.chdir(work)
    (work / "both").mkdir()
    (work / "here").mkdir()
    (recipes / "both").mkdir()
    assert resolve_location(parse_location("both", folder=recipes)) == recipes / "both"
    assert resolve_location(parse_location("here", folder=recipes)).resolve() == work / "here"
    assert parse_location("neither", folder=recipes).kind == "hub"


def test_a_missing_path_names_the_nearest_file(tmp_path):
    (tmp_path / "tweets.csv").touch()
    with pytest.raises(SourceError, match=r"no such file or folder[^\n]*\n.*Did you mean `tweets.csv`"):
        resolve_location(parse_location(str(tmp_path / "tweet.csv")))
    with pytest.raises(SourceError, match="has no folder `sub`"):
        resolve_location(parse_location(str(tmp_path / "sub" / "tweet.csv")))


def test_a_missing_path_in_a_large_folder_stays_on_one_screen(tmp_path):
    for number in range(500):
        (tmp_path / f"{number:04}.bin").touch()
    with pytest.raises(SourceError, match="500 in all") as caught:
        resolve_location(parse_location(str(tmp_path / "zzzzzz.csv")))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no address"),
        ("a\nb", "is no address"),
        ("hub:a/b", "without `hub:`"),
        ("https://host/x.csv", "Download the file"),
        ("PyPI:x==1/y", "Did you mean `pypi:x==1/y`"),
        ("file:///x.csv", "without `file:`"),
        ("no such thing", "neither on disk nor a Hub id"),
        ("pypi:x", "exact version"),
        ("pypi:x>=1/y", "exact version"),
        ("pypi:x==1", "which file or folder|Say which"),
        ("pypi:x==1/", "which file or folder"),
        ("pypi:x==1.*/y", "is not a version"),
        ("pypi:-r==1/y", "is not the name"),
        ("pypi:x[extra]==1/y", "is not the name"),
        ("pypi:x==1/../../etc/passwd", "leaves the package"),
        ("pypi:x==1//etc/passwd", "leaves the package"),
        ("pypi:x==1/a/./b", "leaves the package"),
        ("pypi:x==1/a\\..\\b", "leaves the package"),
        ("pypi:x==1/C:/b", "leaves the package"),
        ("pypi:x==1/y#md5=abc", "sha256="),
        ("pypi:x==1/y#sha256=abc", "sha256="),
    ],
)
def test_what_is_no_address_says_why(text, message):
    with pytest.raises(SourceError, match=message):
        parse_location(text)


@given(
    dist=WORD, version=st.tuples(st.integers(0, 99), st.integers(0, 99)), parts=st.lists(WORD, min_size=1, max_size=4)
)
def test_every_well_formed_package_address_is_understood(dist, version, parts):
    number = f"{version[0]}.{version[1]}"
    location = parse_location(f"pypi:{dist}=={number}/{'/'.join(parts)}#sha256={'A' * 64}")
    assert location.kind == "package"
    assert location.package == parse_package_address(f"pypi:{dist}=={number}/{'/'.join(parts)}/#sha256={'a' * 64}")
    assert location.package.path == "/".join(parts)
    assert location.name == parts[-1]


def test_a_package_has_one_spelling():
    assert parse_package_address("pypi:My_Data.Set==1.0/x").distribution == "my-data-set"


@given(st.text(max_size=40))
def test_any_text_is_understood_or_refused_but_never_a_traceback(text):
    for candidate in (text, f"pypi:{text}", f"pypi:x==1/{text}"):
        try:
            location = parse_location(candidate)
        except SourceError:
            continue
        assert isinstance(location, Location)
        if location.package is not None:
            assert ".." not in location.package.path.split("/")
            assert not location.package.path.startswith("/")


def test_a_hub_id_while_offline_says_what_to_do():
    with pytest.raises(SourceError, match="Run once without --offline"):
        require_online("nyu-mll/glue")
