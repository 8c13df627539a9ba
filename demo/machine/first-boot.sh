# What is typed on the machine of the demo at its first boot: see main.go.
## the kernel as Debian ships it, with the bug in it
uname -rv
## can this machine be protected? It asks before anything else
tsugi check | head -n 4
## network
## it makes itself known with a token
tsugi enroll "$WORD"
## the agent fetches the live patch, verifies it, applies it, watches
tsugi agent >>/run/agent.log 2>&1 & #
for i in $(seq 300); do tsugi status --json 2>/dev/null | grep -q '"state": "healthy"' && break; usleep 300000; done #
tsugi logs
tsugi status
## what crashed this kernel in step 4 passes
/root/ext4-mballoc.sh | tail -n 1
sleep 1; kill $(pidof tsugi); while pidof tsugi; do usleep 50000; done; true #
