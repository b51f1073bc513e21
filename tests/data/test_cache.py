import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from nevus.data import decoded as pixels_module
from nevus.data.cache import Cache, CacheConfig, Digests
from nevus.data.decoded import decode_dataset
from nevus.data.preprocess import Preprocess
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError


@pytest.fixture
def decoded(monkeypatch):
    """Count what is decoded."""
    paths = []

    class Counting(Preprocess):
        def pixels(self, source, *rest):
            paths.append(source)
            return super().pixels(source, *rest)

    monkeypatch.setattr(pixels_module, "Preprocess", Counting)
    return paths


@pytest.fixture
def opened(tmp_path):
    """Make a cache as a new process would."""
    return lambda gigabytes=1.0: Cache(CacheConfig(tmp_path / "cache", gigabytes))


def squares(folder):
    return {p.name: p for p in folder.rglob("*") if p.is_file()}


def test_each_image_is_decoded_once(class_folders, opened, decoded):
    data = read(class_folders({"a": 4, "b": 5}))
    first = decode_dataset(data, 16, opened())
    expected = np.stack([Preprocess(16).pixels(path) for path in data.paths])
    assert np.array_equal(first.pixels[:], expected)
    assert len(decoded) == 9
    again = decode_dataset(data, 16, opened())
    for _ in range(3):  # epochs
        assert np.array_equal(again.pixels[np.array([3, 0, 8, 3])], expected[[3, 0, 8, 3]])
        assert np.array_equal(again.pixels[2:5], expected[2:5])
        assert np.array_equal(again.pixels.subset(slice(2, 8))[np.array([1])], expected[[3]])
    assert len(decoded) == 9
    decode_dataset(data, 20, opened())
    assert len(decoded) == 18


def test_the_key_is_the_content_not_the_name(class_folders, opened, decoded, tmp_path):
    folder = class_folders({"a": 3, "b": 3})
    decode_dataset(read(folder), 16, opened())
    (folder / "a" / "000.png").rename(folder / "a" / "moved.png")
    (folder / "b" / "copy.png").write_bytes((folder / "b" / "000.png").read_bytes())
    decode_dataset(read(folder), 16, opened())
    assert len(decoded) == 6
    time.sleep(0.01)
    Image.new("RGB", (32, 32), "red").save(folder / "b" / "001.png")
    found = decode_dataset(read(folder), 16, opened())
    assert len(decoded) == 7
    row = found.manifest.paths.index(folder / "b" / "001.png")
    assert (found.pixels[:][row] == [255, 0, 0]).all()


@pytest.mark.parametrize("damage", ["cut", "bits", "empty", "gone"])
def test_damaged_squares_are_made_again(class_folders, opened, decoded, tmp_path, damage):
    data = read(class_folders({"a": 3, "b": 3}))
    first = decode_dataset(data, 16, opened())
    expected = first.pixels[:]
    files = sorted((tmp_path / "cache" / "squares-1").rglob("*"))
    path = [p for p in files if p.is_file()][2]
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    {
        "cut": lambda: path.write_bytes(content[:-10]),
        "bits": lambda: path.write_bytes(content),
        "empty": lambda: path.write_bytes(b""),
        "gone": path.unlink,
    }[damage]()
    assert np.array_equal(first.pixels[:], expected)  # in the middle of a run
    assert len(decoded) == 7
    second = decode_dataset(data, 16, opened())
    assert np.array_equal(second.pixels[:], expected)
    assert len(decoded) == 7


def test_a_file_that_changed_during_a_run_is_told(class_folders, opened, tmp_path):
    folder = class_folders({"a": 2, "b": 2})
    found = decode_dataset(read(folder), 16, opened(0))
    Image.new("RGB", (33, 33)).save(folder / "a" / "000.png")
    with pytest.raises(NevusError, match=r"000.png has changed or gone"):
        found.pixels[:]
    (folder / "a" / "000.png").unlink()
    with pytest.raises(NevusError, match=r"000.png has changed or gone"):
        found.pixels[:]


def test_its_size_is_bounded_and_the_oldest_goes_first(class_folders, picture, opened, tmp_path, capsys):
    data = read(class_folders({"a": 10, "b": 10}))
    size = 16 * 16 * 3 + 4
    bound = 8.5 * size / 1e9
    found = decode_dataset(data, 16, opened(bound))
    here = squares(tmp_path / "cache" / "squares-1")
    assert len(here) == 8
    assert "is full" in capsys.readouterr().err
    assert np.array_equal(found.pixels[:], np.stack([Preprocess(16).pixels(p) for p in data.paths]))
    old = sorted(here.values())[:3]
    for path in old:
        os.utime(path, (1, 1))
    for number in range(3):
        (tmp_path / "other" / "cd"[number % 2]).mkdir(parents=True, exist_ok=True)
        picture(32, 32, 77 + number).save(tmp_path / "other" / "cd"[number % 2] / f"{number}.png")
    other = read(tmp_path / "other")
    decode_dataset(other, 16, opened(bound))
    left = squares(tmp_path / "cache" / "squares-1")
    assert len(left) == 8
    assert not any(path.name in left for path in old)


def test_what_other_processes_write_counts(tmp_path):
    size = 16 * 16 * 3 + 4
    config = CacheConfig(tmp_path / "cache", 40 * size / 1e9)
    two = [Cache(config), Cache(config)]
    square = np.zeros((16, 16, 3), np.uint8)
    for number in range(60):
        two[number % 2].store(f"{number:064x}", square)
    assert 30 <= len(squares(tmp_path / "cache" / "squares-1")) <= 44


def test_without_room_nothing_is_kept(class_folders, opened, decoded, tmp_path):
    data = read(class_folders({"a": 2, "b": 2}))
    found = decode_dataset(data, 16, opened(0))
    assert found.pixels[:].shape == (4, 16, 16, 3)
    assert not squares(tmp_path / "cache" / "squares-1")
    assert len(decoded) == 8


def test_where_it_cannot_be_written_work_goes_on(class_folders, tmp_path, capsys):
    data = read(class_folders({"a": 2, "b": 2}))
    (tmp_path / "file").write_text("")
    found = decode_dataset(data, 16, Cache(CacheConfig(tmp_path / "file")))
    assert found.pixels[:].shape == (4, 16, 16, 3)
    told = capsys.readouterr().err
    assert told.count("cannot be written") == 1


def test_two_may_build_it_at_once(class_folders, opened, tmp_path):
    data = read(class_folders({"a": 30, "b": 30}))
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(decode_dataset, data, 16, opened(), begin=begin) for begin in (0, 0.25, 0.5, 0.75)]
        results = [job.result().pixels[:] for job in jobs]
    assert all(np.array_equal(result, results[0]) for result in results)
    assert len(squares(tmp_path / "cache" / "squares-1")) == 60
    assert not list(tmp_path.rglob("*.part"))


def test_where_one_begins_changes_nothing(class_folders, opened):
    folder = class_folders({"a": 4, "b": 4})
    (folder / "a" / "002.png").write_bytes(b"broken")
    (folder / "b" / "003.png").write_bytes(b"broken, too")
    data = read(folder)
    found = [decode_dataset(data, 16, opened(), begin=begin) for begin in (0, 0.5, 0.9)]
    assert all(f.faults == found[0].faults for f in found)
    assert all(f.manifest.digest == found[0].manifest.digest for f in found)
    assert all(np.array_equal(f.pixels[:], found[0].pixels[:]) for f in found)


def test_what_a_killed_process_left_is_swept(class_folders, opened, tmp_path):
    left = tmp_path / "cache" / "squares-1" / "16" / "ab" / ".abcd.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    decode_dataset(read(class_folders({"a": 2, "b": 2})), 16, opened())
    assert not left.exists()


def test_digests_are_remembered_until_the_file_changes(tmp_path):
    file, memory = tmp_path / "a", tmp_path / "digests.sqlite"
    file.write_bytes(b"one")
    with Digests(memory) as digests:
        first = digests.of(file)
    state = file.stat()
    file.write_bytes(b"two")  # as long, and set back: taken for the same
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    with Digests(memory) as digests:
        assert digests.of(file) == first
        os.utime(file, (5, 5))
        assert digests.of(file) != first


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(50)])
def test_a_damaged_memory_of_digests_is_made_again(tmp_path, content):
    file, memory = tmp_path / "a", tmp_path / "digests.sqlite"
    file.write_bytes(b"one")
    memory.write_bytes(content)
    with Digests(memory) as digests:
        first = digests.of(file)
    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # echo -n one | sha256sum
    with Digests(memory) as digests:
        assert digests.of(file) == first


def test_digests_by_many_threads_and_processes(tmp_path):
    files = []
    for i in range(50):
        files.append(tmp_path / str(i))
        files[-1].write_bytes(bytes([i]))
    found, faults = [], []

    def work():
        try:
            with Digests(tmp_path / "digests.sqlite") as digests:
                found.append([digests.of(file) for file in files])
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len({tuple(f) for f in found}) == 1


def test_a_negative_bound_is_told():
    with pytest.raises(NevusError, match="cannot be"):
        CacheConfig(gigabytes=-1)
