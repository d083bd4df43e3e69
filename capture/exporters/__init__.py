"""Exporters: traces → other tools' inputs. One file per format; what they share is in `export_file`."""
