# PID 1 of a node, in namespaces of its own (network, mount, UTS, IPC, PID). The machine's own /etc, /var, /run and kernel
# settings stay as they are: everything below happens in this mount namespace.
#   init NAME DIRECTORY ASSETS
set -eu
name=$1 directory=$2 assets=$3

hostname "$name"
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/node /run/assets /run/lock
# With what is mounted below it: a node may have a disk of its own.
mount --rbind "$directory" /run/node
mount --bind "$assets" /run/assets
mount --bind /run/node/etc /etc
mount --bind /run/node/var /var
mount -t tmpfs -o mode=1777 tmpfs /tmp
# Pods mount volumes below it, which the kubelet must see.
mount --bind /var/lib/kubelet /var/lib/kubelet
mount --make-rshared /var/lib/kubelet
# The kubelet wants kernel settings that belong to the whole machine: it finds them as it wants them and changes nothing.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=/run/setting-$(echo "${setting%=*}" | tr / -)
    echo "${setting#*=}" >"$file"
    [ ! -e "/proc/sys/${setting%=*}" ] || mount --bind "$file" "/proc/sys/${setting%=*}"
done
echo 1 >/proc/sys/net/ipv4/ip_forward

PATH=/run/assets:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

# keep NAME COMMAND…: starts it again whenever it ends, in a subshell: its `exec` ends that one only.
keep() {
    log=/var/log/$1.log
    shift
    while :; do
        ("$@") >>"$log" 2>&1 </dev/null || :
        sleep 1
    done
}

kubelet_when_configured() {
    while [ ! -s /var/lib/kubelet/config.yaml ]; do sleep 0.1; done
    # shellcheck disable=SC1091 # written by kubeadm
    [ ! -s /var/lib/kubelet/kubeadm-flags.env ] || . /var/lib/kubelet/kubeadm-flags.env
    bootstrap=
    [ ! -s /etc/kubernetes/bootstrap-kubelet.conf ] || bootstrap=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf
    # shellcheck disable=SC2086 # flags
    exec /run/node/bin/kubelet $bootstrap --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml ${KUBELET_KUBEADM_ARGS:-}
}

kube_proxy_when_configured() {
    while [ ! -s /etc/kubernetes/kube-proxy.conf ]; do sleep 0.1; done
    exec kube-proxy --config=/etc/kubernetes/kube-proxy.yaml
}

keep containerd containerd &
keep kubelet kubelet_when_configured &
keep kube-proxy kube_proxy_when_configured &
# Reaps whoever loses its parent, too.
while :; do wait || :; sleep 1; done
