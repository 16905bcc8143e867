package main

import (
	"github.com/spf13/cobra"
	"k8s.io/kubernetes/test/images/agnhost/connect"
	entrypoint "k8s.io/kubernetes/test/images/agnhost/entrypoint-tester"
	"k8s.io/kubernetes/test/images/agnhost/inclusterclient"
	logsgen "k8s.io/kubernetes/test/images/agnhost/logs-generator"
	"k8s.io/kubernetes/test/images/agnhost/mounttest"
	"k8s.io/kubernetes/test/images/agnhost/netexec"
	agnhostpause "k8s.io/kubernetes/test/images/agnhost/pause"
	portforwardtester "k8s.io/kubernetes/test/images/agnhost/port-forward-tester"
	"k8s.io/kubernetes/test/images/agnhost/porter"
	servehostname "k8s.io/kubernetes/test/images/agnhost/serve-hostname"
	testwebserver "k8s.io/kubernetes/test/images/agnhost/test-webserver"
)

// newAgnhost is the part of Kubernetes' own test image that test pods use: web servers, log writers and probes.
func newAgnhost() *cobra.Command {
	root := &cobra.Command{Use: "agnhost", Short: "Programs for test pods"}
	root.AddCommand(
		connect.CmdConnect,
		entrypoint.CmdEntrypointTester,
		inclusterclient.CmdInClusterClient,
		logsgen.CmdLogsGenerator,
		mounttest.CmdMounttest,
		netexec.CmdNetexec,
		agnhostpause.CmdPause,
		portforwardtester.CmdPortForwardTester,
		porter.CmdPorter,
		servehostname.CmdServeHostname,
		testwebserver.CmdTestWebserver,
	)
	return root
}
