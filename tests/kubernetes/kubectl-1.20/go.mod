module cattle.test/kubectl-1.20

go 1.15

require (
	github.com/spf13/pflag v1.0.5
	k8s.io/client-go v0.20.15
	k8s.io/component-base v0.20.15
	k8s.io/kubectl v0.20.15
)
