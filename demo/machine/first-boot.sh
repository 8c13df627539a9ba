# What is typed on the machine of the demo at its first boot: see main.go. A
# line that ends in # is typed as well and not shown.
## the kernel as Debian ships it, with the bug in it
uname -rv
## can this machine be protected? It asks before anything else
tsugi check
## network
## it makes itself known with a token
tsugi enroll "$WORD"
## the agent fetches the live patch, verifies it, applies it
tsugi agent >>/run/agent.log 2>&1 & #
for i in $(seq 300); do tsugi status --json 2>/dev/null | grep -q '"state": "healthy"' && break; usleep 200000; done; #
tsugi status
## what crashed this kernel in step 4 passes
/root/ext4-mballoc.sh | tail -n 1
## what scanners are told
tsugi cves
sleep 1; kill $(pidof tsugi); wait #
