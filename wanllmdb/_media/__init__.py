"""Media: images, audio, video, pages, tables; what they hold, and their JSON form."""
