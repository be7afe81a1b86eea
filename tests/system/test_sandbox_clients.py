"""Debian's own S3 clients use the sandbox as they use R2, with every signature checked."""
import os
import subprocess

import pytest

from harness import clean_env
from sandbox_tools import Sandbox

MIB = 1024 * 1024


@pytest.fixture
def sandbox(r2shim, tmp_path):
    return Sandbox(tmp_path / "r2").start()


@pytest.fixture
def tree(tmp_path):
    """A few real files: nested, odd names, an empty one, and one above every client's threshold for parts."""
    top = tmp_path / "tree"
    files = {
        "a.txt": b"a", "empty": b"", "sub/deep/ü ñ 日本.jpg": b"picture" * 100, "sub/a+b&c=%20'();.txt": b"odd",
        "sub/ space.txt": b"s", "big.bin": os.urandom(21 * MIB + 17), "exact.bin": os.urandom(16 * MIB),
    }
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(1_577_934_245_678_901_234, 1_577_934_245_678_901_234))
    return top


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*command, status=0, home, **env):
    done = subprocess.run([str(c) for c in command], env=clean_env(HOME=home, **env), capture_output=True, text=True, timeout=120)
    assert done.returncode == status, (command, done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout + done.stderr


def refusals(sandbox):
    """Answers other than 2xx, 304, and the 404 of a look before a write."""
    return {op: statuses for op, by in sandbox.stats()["operations"].items()
            if (statuses := [s for s in by if not s.startswith("2") and s not in ("304", "404")])}


def test_aws(sandbox, tree, tmp_path):
    def aws(*args, **more):
        return run("/usr/bin/aws", "--endpoint-url", sandbox.endpoint, *args, home=tmp_path, AWS_ACCESS_KEY_ID=sandbox.key_id,
                   AWS_SECRET_ACCESS_KEY=sandbox.secret, AWS_DEFAULT_REGION="auto", AWS_EC2_METADATA_DISABLED="true", **more)

    aws("s3", "cp", "--no-progress", tree / "big.bin", "s3://media/one/big.bin")
    aws("s3", "sync", "--no-progress", tree, "s3://media/all")
    assert "upload" not in aws("s3", "sync", "--no-progress", tree, "s3://media/all"), "a second sync had something to do"
    aws("s3", "sync", "--no-progress", "s3://media/all", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tree)
    aws("s3", "cp", "--no-progress", "--copy-props", "metadata-directive",      # R2 has no tags to copy
        "s3://media/one/big.bin", "s3://media/one/copy.bin")
    aws("s3", "cp", "--no-progress", "s3://media/one/copy.bin", tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == (tree / "big.bin").read_bytes()
    listed = aws("s3", "ls", "--recursive", "s3://media/")
    assert len(listed.splitlines()) == len(contents(tree)) + 2
    aws("s3", "rm", "--recursive", "s3://media/")
    assert aws("s3", "ls", "--recursive", "s3://media/", status=0) == ""
    stats = sandbox.stats()
    assert stats["operations"]["UploadPart"] == {"200": 3 + 3 + 2} and stats["buckets"]["media"]["uploads"] == 0
    assert not refusals(sandbox)
    aws("s3", "cp", "--no-progress", tree / "a.txt", "s3://nobucket/a", status=1)


def test_aws_wrong_secret(sandbox, tree, tmp_path):
    said = run("/usr/bin/aws", "--endpoint-url", sandbox.endpoint, "s3", "cp", tree / "a.txt", "s3://media/a", status=1,
               home=tmp_path, AWS_ACCESS_KEY_ID=sandbox.key_id, AWS_SECRET_ACCESS_KEY="wrong", AWS_DEFAULT_REGION="auto")
    assert "SignatureDoesNotMatch" in said
    assert sandbox.stats()["buckets"]["media"]["objects"] == 0


@pytest.mark.parametrize("provider", ["Cloudflare", "Other"])
def test_rclone(sandbox, tree, tmp_path, provider):
    conf = {"RCLONE_CONFIG_R2_TYPE": "s3", "RCLONE_CONFIG_R2_PROVIDER": provider,
            "RCLONE_CONFIG_R2_ACCESS_KEY_ID": sandbox.key_id, "RCLONE_CONFIG_R2_SECRET_ACCESS_KEY": sandbox.secret,
            "RCLONE_CONFIG_R2_ENDPOINT": sandbox.endpoint, "RCLONE_CONFIG_R2_REGION": "auto"}

    def rclone(*args, **more):
        return run("/usr/bin/rclone", "--config", "/dev/null", "--retries", "1", *args, home=tmp_path, **conf, **more)

    rclone("copy", "--s3-upload-cutoff", "6M", "--s3-chunk-size", "5M", tree, "r2:media/x")
    said = rclone("check", tree, "r2:media/x")
    assert "0 differences found" in said and "could not be checked" not in said, said
    assert sandbox.stats()["operations"]["UploadPart"]["200"] == 5 + 4
    assert "Copied" not in rclone("copy", "-v", tree, "r2:media/x"), "a second copy had something to do"
    assert "2020-01-02 03:04:05.678901234" in rclone("lsl", "r2:media/x/a.txt")
    os.utime(tree / "a.txt", ns=(10**18, 10**18))
    rclone("copy", tree, "r2:media/x")                                     # the time alone: CopyObject, REPLACE
    assert "2001-09-09" in rclone("lsl", "r2:media/x/a.txt")
    assert sandbox.stats()["operations"]["CopyObject"] == {"200": 1}
    rclone("copyto", "r2:media/x/big.bin", "r2:media/y/big.bin")
    rclone("copy", "r2:media/x", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tree)
    (tree / "a.txt").unlink()
    rclone("sync", tree, "r2:media/x")
    assert "a.txt" not in rclone("lsf", "r2:media/x")
    rclone("mkdir", "r2:second")
    rclone("rmdir", "r2:second")
    rclone("purge", "r2:media/x")
    assert rclone("lsf", "r2:media/x") == ""
    refused = refusals(sandbox)
    refused.pop("CreateBucket", None)       # it makes the bucket to be sure, and takes "you own it already" for a yes
    assert not refused


def test_s3cmd(sandbox, tree, tmp_path):
    (tmp_path / "s3cfg").write_text(f"""[default]
access_key = {sandbox.key_id}
secret_key = {sandbox.secret}
host_base = {sandbox.listen}
host_bucket = {sandbox.listen}
bucket_location = auto
use_https = False
signature_v2 = False
""")

    def s3cmd(*args, **more):
        return run("/usr/bin/s3cmd", "-c", tmp_path / "s3cfg", "--no-progress", *args, home=tmp_path, **more)

    s3cmd("put", tree / "big.bin", "s3://media/big.bin")
    s3cmd("put", tree / "sub/a+b&c=%20'();.txt", "s3://media/odd/a+b&c=%20'();.txt")
    s3cmd("sync", f"{tree}/", "s3://media/all/")
    assert "big.bin" in s3cmd("ls", "s3://media/") and "DIR" in s3cmd("ls", "s3://media/")
    s3cmd("get", "s3://media/big.bin", tmp_path / "big.back")
    assert (tmp_path / "big.back").read_bytes() == (tree / "big.bin").read_bytes()
    s3cmd("get", "s3://media/odd/a+b&c=%20'();.txt", tmp_path / "odd.back")
    assert (tmp_path / "odd.back").read_bytes() == b"odd"
    s3cmd("cp", "s3://media/big.bin", "s3://media/copy.bin")
    s3cmd("modify", "--add-header=x-amz-meta-colour:red", "s3://media/copy.bin")
    assert "x-amz-meta-colour: red" in s3cmd("info", "s3://media/copy.bin")
    s3cmd("del", "s3://media/big.bin")
    s3cmd("del", "--recursive", "--force", "s3://media/all/")
    s3cmd("mb", "s3://second")
    assert "s3://second" in s3cmd("ls")
    s3cmd("rb", "s3://second")
    assert sandbox.stats()["operations"]["UploadPart"]["200"] == 2 + 2 + 2
    refused = refusals(sandbox)
    refused.pop("Unsupported", None)        # "info" asks for the policy and the ACL, which R2 has not
    assert not refused
