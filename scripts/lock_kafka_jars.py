"""Resolve the jars of Kafka's broker anew and write `kafka-jars.lock`: python scripts/lock_kafka_jars.py [VERSION].

Follows the run-time dependencies of `org.apache.kafka:kafka_2.13` and adds the log4j binding that Kafka's POM leaves
out. The digests are of what the repository serves today: look at the difference before committing it.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from privacy_platform.streaming.jars import ivy, java

LOCK = Path(__file__).resolve().parent.parent / "privacy_platform" / "streaming" / "kafka-jars.lock"
SETTINGS = (
    '<ivysettings><settings defaultResolver="main"/><resolvers><ibiblio name="main" m2compatible="true"/></resolvers>'
    "</ivysettings>"
)


def main() -> None:
    """Resolve and write."""
    kafka = sys.argv[1] if len(sys.argv) > 1 else "4.1.1"
    lines = set()
    with tempfile.TemporaryDirectory() as work:
        settings = Path(work) / "ivysettings.xml"
        settings.write_text(SETTINGS, encoding="utf-8")
        for group, name, version in (
            ("org.apache.kafka", "kafka_2.13", kafka),
            ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"),
        ):
            # A type that is not `jar` but is one: some POMs say `bundle`.
            command = [java(), "-jar", str(ivy()), "-settings", str(settings), "-cache", f"{work}/cache"]
            command += ["-dependency", group, name, version, "-confs", "default", "-types", "jar", "bundle"]
            command += ["-retrieve", f"{work}/jars/[organisation]/[artifact]/[revision]/[artifact]-[revision].[ext]"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for jar in Path(work).glob("jars/*/*/*/*.jar"):
            organisation, artifact, revision = jar.relative_to(f"{work}/jars").parts[:3]
            lines.add(f"{organisation}:{artifact}:{revision} {hashlib.sha256(jar.read_bytes()).hexdigest()}")
    LOCK.write_text("# Made by scripts/lock_kafka_jars.py\n" + "\n".join(sorted(lines)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
