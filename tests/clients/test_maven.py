# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Maven and Gradle against the real Maven Central, through a mirror that is deployed on this machine.

They read what the role writes, and have no way out but the mirror: whatever else they ask goes to a proxy that is not there. The
mirror is cut off by a name server that no longer knows its upstream. Needs root, maven, gradle and the registry.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from installs import HITS, NOWHERE, Mirror
from packageurl.validate import DEFINITIONS_BY_TYPE
from upstreams import EACH, FIRST, Names, bodies, cut_off, mirror_of, reached, validated

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))

from node_lab import Control, make_control

# Maven refuses plain http but from this machine's own addresses, so the mirror has to have a name.
NAME = "mirror.test"
# A range has Maven ask for the metadata of a project, and not for its files alone.
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.example</groupId>
  <artifactId>demo</artifactId>
  <version>1.0</version>
  <properties>
    <maven.compiler.source>8</maven.compiler.source>
    <maven.compiler.target>8</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    <dependency>
      <groupId>junit</groupId>
      <artifactId>junit</artifactId>
      <version>[4.13,5)</version>
    </dependency>
  </dependencies>
</project>
"""
METADATA = ("/maven-metadata.xml", "/maven-metadata.xml.sha1")  # the mirror asks for these anew each second
MAIN = """public class Main {
    public static void main(String[] arguments) {
        System.out.println(junit.runner.Version.id());
    }
}
"""

# For the build itself and for the build's own script.
BUILD = """
buildscript {
    repositories { mavenCentral() }
    dependencies { classpath 'commons-io:commons-io:2.11.0' }
}
configurations { used }
repositories { mavenCentral() }
dependencies { used 'junit:junit:4.13.2' }
task files {
    doLast { (configurations.used + buildscript.configurations.classpath).each { println it.name } }
}
"""


def metadata() -> str:
    return DEFINITIONS_BY_TYPE["maven"].default_repository_url.rstrip("/") + "/junit/junit/maven-metadata.xml"


@pytest.fixture(scope="module")
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Mirror, Names]]:
    reached(metadata(), "Maven Central")
    with mirror_of({"type": "maven"}, urls=[metadata()], mirror_aliases=[NAME], mirror_engine=request.param) as both:
        yield both


@pytest.fixture
def mirror(both: tuple[Mirror, Names]) -> Mirror:
    return both[0]


def named(mirror: Mirror) -> str:
    """The mirror's base URL, by its name."""
    return f"http://{NAME}:{urlsplit(mirror.url).port}"


@pytest.fixture
def control(mirror: Mirror, tmp_path: Path) -> Control:
    """Its home is configured for the mirror, by the role."""
    control = make_control(tmp_path)
    with urllib.request.urlopen(f"{mirror.url}/mirror.json", timeout=10) as response:
        document = json.load(response)
    given = {"configure_mirrors_document": document, "configure_mirrors_url": named(mirror), "configure_mirrors_scope": "user"}
    run = control.play("nodes", {"node": given})
    assert run.code == 0, run.output
    return control


@dataclass
class Build:
    """What one build of the project asked of the mirror, and what it left behind; files by their paths in the repository."""

    says: str
    files: set[str]
    access: list[dict]
    upstream: list[dict]

    @property
    def served(self) -> set[str]:
        lines = [line for line in self.access if line["status"] == 200 and line["method"] == "GET"]
        return {urlsplit(line["uri"]).path.removeprefix("/maven/") for line in lines}


def mvn(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Maven in the project, with no settings of this user's, and with no way out but to a mirror on this machine."""
    maven = shutil.which("mvn") or pytest.fail("maven is not installed; run make host")
    nowhere = urlsplit(NOWHERE)
    options = [f"-D{scheme}.proxy{what}" for scheme in ("http", "https") for what in (f"Host={nowhere.hostname}", f"Port={nowhere.port}")]
    (folder / "hosts").write_text(f"127.0.0.1 {NAME}\n")
    options += [f"-Dhttp.nonProxyHosts={NAME}", f"-Djdk.net.hosts.file={folder}/hosts", f"-Duser.home={folder}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "MAVEN_OPTS": " ".join(options)}
    command = [maven, "-B", "-C", f"-Dmaven.repo.local={folder}/repository", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture
def build(mirror: Mirror, control: Control) -> Callable[[], Build]:
    """Builds the project with nothing of Maven's own left from before; checksums that do not fit fail it."""

    def run() -> Build:
        folder = control.folder / f"build-{len(list(control.folder.iterdir()))}"
        (folder / "src/main/java").mkdir(parents=True)
        (folder / "pom.xml").write_text(POM)
        (folder / "src/main/java/Main.java").write_text(MAIN)
        positions = mirror.positions()
        done = mvn(folder, "-s", str(control.home / ".m2/settings.xml"), "compile")
        assert done.returncode == 0, done.stdout + done.stderr
        repository = folder / "repository"
        jars = ":".join(map(str, repository.rglob("*.jar")))
        says = subprocess.run(["java", "-cp", f"{folder}/target/classes:{jars}", "Main"], capture_output=True, text=True, check=True).stdout
        return Build(
            says,
            {str(path.relative_to(repository)) for path in repository.rglob("*") if path.suffix in (".pom", ".jar")},
            [line for line in mirror.since(positions, "access.log") if line["uri"].startswith("/maven/")],
            mirror.since(positions, "upstream.log"),
        )

    return run


@EACH
def test_a_real_project_builds_cold_then_cut_off(both: tuple[Mirror, Names], build: Callable[[], Build]) -> None:
    mirror, names = both
    mirror.purge()
    cold = build()
    assert cold.says.startswith("4.")
    assert len(cold.files) > 20 and cold.files - cold.served == set(), "used, but not in the mirror's access log"
    assert {f"{path}.sha1" for path in cold.files} - cold.served == set(), "without its checksum"
    assert "junit/junit/maven-metadata.xml" in cold.served
    assert len(bodies(mirror, "mvn, cold", cold.access, cold.upstream)) >= len(cold.files)
    warm = build()
    with cut_off(names, f"{mirror.url}/maven/org/example/unseen/maven-metadata.xml"):
        away = build()
    for state, one, anew in ("warm", warm, METADATA if not validated(metadata()) else ()), ("cut off", away, ()):
        assert (one.says, one.files, one.served) == (cold.says, cold.files, cold.served)
        assert {line["cache"] for line in one.access if not line["uri"].endswith(anew)} <= HITS, "not from the cache"
        came = bodies(mirror, f"mvn, {state}", one.access, one.upstream)
        assert not [url for url in came if not url.endswith(anew)], "fetched from upstream"


@FIRST
def test_maven_has_no_other_way_out(control: Control) -> None:
    (control.folder / "pom.xml").write_text(POM)
    done = mvn(control.folder, "compile")
    assert done.returncode != 0 and "Connect to 127.0.0.1:9 " in done.stdout, done.stdout


@FIRST
def test_maven_refuses_the_same_url_where_it_is_no_mirrors(mirror: Mirror, control: Control) -> None:
    repository = f"<repository><id>central</id><url>{named(mirror)}/maven</url></repository>"
    plugins = repository.replace("repository>", "pluginRepository>")
    own = f"<repositories>{repository}</repositories><pluginRepositories>{plugins}</pluginRepositories>"
    (control.folder / "pom.xml").write_text(POM.replace("</project>", f"{own}</project>"))
    done = mvn(control.folder, "compile")
    assert done.returncode != 0 and "maven-default-http-blocker" in done.stdout, done.stdout
    done = mvn(control.folder, "-s", str(control.home / ".m2/settings.xml"), "dependency:get", "-Dartifact=junit:junit:4.13.2:pom")
    assert done.returncode == 0, done.stdout


def gradle(control: Control, *options: str) -> subprocess.CompletedProcess[str]:
    """Gradle in a project of one dependency and one plugin's, with nothing from before but the init script."""
    tool = shutil.which("gradle") or pytest.fail("gradle is not installed; run make host")
    home, project = control.home / ".gradle", control.folder / "project"
    shutil.rmtree(home / "caches", ignore_errors=True)
    project.mkdir(exist_ok=True)
    (project / "build.gradle").write_text(BUILD)
    (project / "settings.gradle").touch()
    proxies = [f"-D{scheme}.proxy{what}" for scheme in ("http", "https") for what in ("Host=127.0.0.1", f"Port={urlsplit(NOWHERE).port}")]
    command = [tool, "--no-daemon", "-q", "-g", str(home), *proxies, *options, "files"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(control.home)}
    return subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True, timeout=300, check=False)


@FIRST
def test_gradle_resolves_cold_then_cut_off(both: tuple[Mirror, Names], tmp_path: Path) -> None:
    mirror, names = both
    mirror.purge()
    control = make_control(tmp_path)
    run = control.play("nodes", {"node": {"configure_mirrors_url": mirror.url, "configure_mirrors_scope": "user"}})
    assert run.code == 0, run.output
    direct = "-Dhttp.nonProxyHosts=127.0.0.1"
    positions = mirror.positions()
    cold = gradle(control, direct)
    assert cold.returncode == 0 and {"junit-4.13.2.jar", "commons-io-2.11.0.jar"} <= set(cold.stdout.split()), cold.stdout + cold.stderr
    served = {line["uri"].rpartition("/")[2] for line in mirror.since(positions, "access.log") if line["status"] == 200}
    assert set(cold.stdout.split()) <= served, "used, but not in the mirror's access log"
    for state in "warm", "cut off":
        with cut_off(names, f"{mirror.url}/maven/org/example/unseen/maven-metadata.xml") if state == "cut off" else nullcontext():
            positions = mirror.positions()
            assert gradle(control, direct).stdout == cold.stdout
        access, upstream = (mirror.since(positions, name) for name in ("access.log", "upstream.log"))
        assert {line["cache"] for line in access} <= HITS, "not from the cache"
        assert bodies(mirror, f"gradle, {state}", access, upstream) == [], "fetched from upstream"
    next((control.home / ".gradle/init.d").iterdir()).unlink()
    assert gradle(control, direct).returncode != 0, "it has another way out"


@EACH
def test_the_mirror_is_healthy(mirror: Mirror) -> None:
    report = health.examine(Client(), mirror.url, upstream=Client())
    assert not report.bad, report.failure
    assert {entry["check"]: entry["verdict"] for entry in report.checks if entry["site"]} == {
        check.__name__: "good" for check in health.maven.CHECKS
    }
