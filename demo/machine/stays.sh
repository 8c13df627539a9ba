# What is typed on the machine of the demo at its last boot: see main.go. It
# stays until the demo ends.
## network
## the agent goes on, and takes again what was taken out
tsugi agent >>/run/agent.log 2>&1 & #
for i in $(seq 300); do [ -S /run/tsugi/agent.sock ] && break; usleep 300000; done #
tsugi refresh
for i in $(seq 300); do tsugi status --json 2>/dev/null | grep -q '"state": "healthy"' && break; usleep 300000; done #
tsugi status
