"""A network of one's own for each node of a cluster, whose cables can be pulled.

Every node lives in a network namespace with three cables, each to a bridge of its own:

    clients        clients and tests, which run outside, reach the node here
    peers          the proxies reach each other here, and nobody else
    coordinators   the proxies reach the coordinators here (which run outside)

So a node that is cut off from its peers or from the coordinators can still be asked by a test what
it thinks. A cut takes down the far end of the cable: packets vanish without a word and connections
stay open, as with a pulled cable or a dead switch.

Needs root (or CAP_NET_ADMIN and CAP_SYS_ADMIN) and iproute2; available() tells.
"""

import os
import subprocess
from pathlib import Path

RELATIONS = ("clients", "peers", "coordinators")
_LETTER = {"clients": "c", "peers": "p", "coordinators": "k"}
_OWNERS = Path("/run/catena-networks")
_NETWORKS_MAX = 80


class NetworkError(Exception):
    pass


def _ip(*arguments, check=True):
    done = subprocess.run(("ip",) + arguments, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise NetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done


def available():
    """Whether this process may make network namespaces and bridges."""
    name = f"ctnprobe{os.getpid() % 100000}"
    try:
        if _ip("netns", "add", name, check=False).returncode != 0:
            return False
        _ip("netns", "del", name, check=False)
        if _ip("link", "add", name, "type", "bridge", check=False).returncode != 0:
            return False
        _ip("link", "del", name, check=False)
    except FileNotFoundError:
        return False
    return True


def _start_time(pid):
    """Of a process, in clock ticks since boot: tells a process from a later one of the same id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def _names(number):
    return f"ctn{number}"


def _remove(number):
    """Everything of one network; what is not there is not missed."""
    prefix = _names(number)
    # A namespace goes when the last process in it has gone, and takes its ends of the cables with it only then: their
    # names would be in the way of whoever takes this number next.
    for line in _ip("-o", "link", "show", check=False).stdout.splitlines():
        name = line.split(": ")[1].split("@")[0]
        if name.startswith(prefix + "-"):
            _ip("link", "del", name, check=False)
    for line in _ip("netns", "list", check=False).stdout.splitlines():
        name = line.split()[0] if line.split() else ""
        if name.startswith(prefix + "-"):
            _ip("netns", "del", name, check=False)
    for relation in RELATIONS:
        _ip("link", "del", f"{prefix}{_LETTER[relation]}", check=False)
    (_OWNERS / str(number)).unlink(missing_ok=True)


def _remove_orphans():
    """Networks whose process died without taking them down."""
    if not _OWNERS.is_dir():
        return
    for entry in _OWNERS.iterdir():
        try:
            pid, start = entry.read_text().split()
        except (OSError, ValueError):
            continue
        if _start_time(pid) != start:
            _remove(int(entry.name))


class Network:
    """Namespaces for the nodes named; use create() and destroy(), or a `with` statement.

    Addresses are 10.77.x.y: three networks of 256 addresses; node number i (from 1) has address
    i in each, and the outside has .254 in each.
    """

    def __init__(self, nodes):
        self.nodes = list(nodes)
        self.number = None
        self._cut = set()

    def __enter__(self):
        self.create()
        return self

    def __exit__(self, *_):
        self.destroy()

    def create(self):
        _remove_orphans()
        self.number = self._claim()
        try:
            for relation in RELATIONS:
                bridge = self._bridge(relation)
                _ip("addr", "add", f"{self.outside(relation)}/24", "dev", bridge)
                _ip("link", "set", bridge, "up")
            for node in self.nodes:
                self._add(node)
        except BaseException:
            self.destroy()
            raise

    def destroy(self):
        if self.number is not None:
            _remove(self.number)
            self.number = None

    def address(self, node, relation):
        return f"{self._subnet(relation)}.{self.nodes.index(node) + 1}"

    def outside(self, relation):
        """The address under which processes outside the namespaces are reached on that bridge."""
        return f"{self._subnet(relation)}.254"

    def command(self, node):
        """Put before an argv, runs it in the node's namespace (as the same process)."""
        return ["ip", "netns", "exec", self._namespace(node)]

    def cut(self, node, relation):
        """Pulls a cable: "peers", "coordinators", "clients", or "all" (the first two)."""
        for one in self._relations(relation):
            _ip("link", "set", self._cable(node, one), "down")
            self._cut.add((node, one))

    def heal(self, node=None, relation=None):
        """Puts cables back: one, all of a node, or all."""
        relations = self._relations(relation) if relation else RELATIONS
        for cut_node, one in sorted(self._cut):
            if (node is None or cut_node == node) and one in relations:
                _ip("link", "set", self._cable(cut_node, one), "up")
                self._cut.discard((cut_node, one))

    @staticmethod
    def _relations(relation):
        if relation == "all":
            return ("peers", "coordinators")
        if relation not in RELATIONS:
            raise NetworkError(f"no cable {relation!r}; there are {', '.join(RELATIONS)} and all")
        return (relation,)

    def _claim(self):
        """A number that no other cluster uses. Making the bridge is what decides between two."""
        _OWNERS.mkdir(parents=True, exist_ok=True)
        for number in range(_NETWORKS_MAX):
            bridge = f"{_names(number)}{_LETTER[RELATIONS[0]]}"
            if _ip("link", "add", bridge, "type", "bridge", check=False).returncode != 0:
                continue
            owner = f"{os.getpid()} {_start_time(os.getpid())}"
            (_OWNERS / str(number)).write_text(owner)
            for relation in RELATIONS[1:]:
                other = f"{_names(number)}{_LETTER[relation]}"
                _ip("link", "del", other, check=False)  # of a clean-up that was cut short
                _ip("link", "add", other, "type", "bridge")
            return number
        raise NetworkError(f"cannot make a bridge: no right to, or {_NETWORKS_MAX} networks in use")

    def _add(self, node):
        namespace = self._namespace(node)
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        for relation in RELATIONS:
            outer = self._cable(node, relation)
            _ip("link", "add", outer, "type", "veth", "peer", "name", relation, "netns", namespace)
            _ip("link", "set", outer, "master", self._bridge(relation), "up")
            address = f"{self.address(node, relation)}/24"
            _ip("-n", namespace, "addr", "add", address, "dev", relation)
            _ip("-n", namespace, "link", "set", relation, "up")

    def _subnet(self, relation):
        return f"10.77.{3 * self.number + RELATIONS.index(relation)}"

    def _bridge(self, relation):
        return f"{_names(self.number)}{_LETTER[relation]}"

    def _namespace(self, node):
        return f"{_names(self.number)}-{node}"

    def _cable(self, node, relation):
        # Names of interfaces have at most 15 characters; ids of nodes may be longer.
        return f"{_names(self.number)}-{self.nodes.index(node) + 1}{_LETTER[relation]}"
