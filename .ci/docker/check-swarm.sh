# Part of image-check.sh: docker stack deploy on a one-node swarm. Its ports are taken out for the check: swarm would publish
# them on every address of the machine.
if [ "$(docker info -f '{{.Swarm.LocalNodeState}}')" != inactive ]; then skip "swarm: this engine is in one already"; return; fi
if ! docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377 >/dev/null 2>"$W/out"; then
    skip "swarm: $(tail -1 "$W/out")"; return
fi
STACK=$ID
# tasks.proxy: the task's own address, because the service's virtual one needs IPVS, which not every kernel has.
through() { docker run --rm --network "${STACK}_default" --no-healthcheck -v "$HERE/stream.py:/stream.py:ro" "$IMG" python /stream.py "http://tasks.proxy:3000" "$@"; }
settled()  { docker service ls --filter "name=${STACK}_proxy" --format '{{.Replicas}}' | grep -x 1/1; }
stack()    {
    python3 - deploy/swarm/stack.yml >"$W/stack.yml" <<'P'
import sys, re
text = open(sys.argv[1]).read()
short, n = re.subn(r"    ports:\n(      .*\n)+", "", text)
assert n == 1, "the stack's ports are not where they were"
print(short + "\nnetworks:\n  default:\n    driver: overlay\n    attachable: true")
P
    IMAGE=$IMG:latest BASE_URL=http://$SIM:4000/api/anthropic docker stack deploy --detach=true --resolve-image never -c "$W/stack.yml" "$STACK"
}
t "docker stack deploy" stack
docker network connect "${STACK}_default" "$SIM" >/dev/null 2>&1
t "... converges" until_ok 60 settled
t "... streams" through
rm -f "$W/flow"; through 'slow;deltas=60;pace=0.2' >"$W/flow" 2>&1 & flow=$!
until_ok 20 grep -q first "$W/flow"
t "... an update replaces the task" docker service update --quiet --detach=false --force "${STACK}_proxy"
wait $flow; rc=$?
t "... and the stream in flight is finished by the old one ($(tail -1 "$W/flow"))" eq $rc 0
docker network disconnect -f "${STACK}_default" "$SIM" >/dev/null 2>&1
t "docker stack rm" until_ok 30 docker stack rm "$STACK"
docker swarm leave --force >/dev/null
docker volume rm "${STACK}_data" >/dev/null 2>&1
