"""Started as a batch job would be: at a low priority, by somebody who may not raise it again."""

import os
import shutil


def test_a_service_of_low_priority_answers(servers):
    """As root the right to raise it is given away first; where that cannot be done, root proves nothing here."""
    drop = ("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice") if os.geteuid() == 0 else ()
    assert not drop or shutil.which("setpriv"), "run this as an ordinary user, or install util-linux"
    server = servers(under=(*drop, "nice", "-n", "10"))
    assert server.similarity().status_code == 200
    assert server.get("/health/ready").status_code == 200
