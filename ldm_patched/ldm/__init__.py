"""The networks as plain nn.Modules. They know no files, no devices and no sampling."""
