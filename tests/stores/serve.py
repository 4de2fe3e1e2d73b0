"""Runs a command with one Azurite and one S3 server (moto) for all tests, since starting them takes longer than most tests.

    serve.py COMMAND [ARGUMENT ...]

Takes the path of Azurite from AZURITE. The command finds the ports in DEFENDER_LAKE_AZURITE_PORT and DEFENDER_LAKE_MOTO_PORT;
the servers listen on loopback and end with it. Exits as the command does.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(port, server):
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"{server.args} ended with {server.returncode} before it listened")
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit(f"{server.args} did not listen within a minute")


def main():
    ports = {"DEFENDER_LAKE_AZURITE_PORT": free_port(), "DEFENDER_LAKE_MOTO_PORT": free_port()}
    azurite_port, moto_port = map(str, ports.values())
    with tempfile.TemporaryDirectory() as folder:
        # The program for blobs alone is its neighbour, and starts faster.
        azurite = [os.path.join(os.path.dirname(os.environ["AZURITE"]), "azurite-blob"), "--blobHost", "127.0.0.1"]
        azurite += ["--blobPort", azurite_port, "--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location", folder]
        moto = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", moto_port]
        servers = []
        try:
            for server in (azurite, moto):
                servers.append(subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            for port, server in zip(ports.values(), servers):
                wait_for(port, server)
            environment = os.environ | {name: str(port) for name, port in ports.items()}
            command = subprocess.Popen(sys.argv[1:], env=environment)
            # Ctrl-C is the command's to answer.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            return command.wait()
        finally:
            for server in servers:
                server.kill()
                server.wait()


if __name__ == "__main__":
    sys.exit(main())
