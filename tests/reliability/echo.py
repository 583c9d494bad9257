"""Answers whatever it is sent, and does nothing else: how late it is tells how late this machine is.

python tests/reliability/echo.py      prints its port, and ends with its standard input
"""

import socket
import sys
from threading import Thread


def serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(connection.recv(65_536))


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    Thread(target=serve, args=(listener,), daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
